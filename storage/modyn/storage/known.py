"""The files of a dataset that were looked at before: ingested ones and quarantined ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.storage.catalog import QuarantineRow, StorageCatalog
from modyn.storage.dataset import NO_RANGES, Dataset
from modyn.storage.folder import SourceFile
from modyn.storage.manifest import FileVersion, read_files, read_runs


class KnownFiles:
    """Newest known version of every file. Only used under the dataset's scan lock."""

    def __init__(self, dataset: Dataset, catalog: StorageCatalog) -> None:
        self._dataset = dataset
        self._catalog = catalog
        self._ingested: dict[str, tuple[FileVersion, str]] = {}
        self._read_manifests = 0
        self._quarantined = {row.path: row for row in catalog.quarantined(dataset.id)}

    def refresh(self) -> None:
        """Takes in commits it has not seen, such as those of earlier processes."""
        self._dataset.refresh()
        unread = self._dataset.manifests[self._read_manifests :]
        for manifest, _ in unread:
            self._remember(read_files(self._dataset.scans_folder / manifest), manifest)
        if unread:  # which files a commit released from quarantine, and which were set aside later, the catalog says
            self._quarantined = {row.path: row for row in self._catalog.quarantined(self._dataset.id)}

    def is_new(self, file: SourceFile) -> bool:
        """Whether this version of a file was neither ingested nor quarantined yet."""
        known = self._ingested.get(file.name)
        if known is not None and known[0] == file.version:
            return False
        row = self._quarantined.get(file.name)
        return row is None or (row.size, row.mtime_ns, row.ctime_ns) != (file.size, file.mtime_ns, file.ctime_ns)

    def count_new(self, files: Sequence[FileVersion]) -> int:
        """How many of these paths were never ingested before."""
        return sum(file.path not in self._ingested for file in files)

    def superseded_by(self, files: Sequence[FileVersion]) -> tuple[Int64Array, Int64Array]:
        """Key ranges (starts, ends) of the earlier versions of these files, ascending."""
        by_manifest: dict[str, list[str]] = {}
        for file in files:
            if file.path in self._ingested:
                by_manifest.setdefault(self._ingested[file.path][1], []).append(file.path)
        if not by_manifest:
            return NO_RANGES
        first_keys = dict(self._dataset.manifests)
        ranges = [
            read_runs(self._dataset.scans_folder / manifest, paths, first_keys[manifest])
            for manifest, paths in by_manifest.items()
        ]
        starts = np.concatenate([starts for starts, _ in ranges])
        ends = np.concatenate([ends for _, ends in ranges])
        order = np.argsort(starts, kind="stable")
        return starts[order], ends[order]

    def add(self, files: Sequence[FileVersion], manifest: str) -> None:
        """These files are committed."""
        self._remember(files, manifest)
        for file in files:
            self._quarantined.pop(file.path, None)

    def _remember(self, files: Sequence[FileVersion], manifest: str) -> None:
        self._read_manifests += 1
        for file in files:
            self._ingested[file.path] = (file, manifest)

    def quarantine(self, rows: Sequence[QuarantineRow]) -> None:
        """Sets files aside until they change."""
        self._catalog.quarantine(self._dataset.id, rows)
        self._quarantined.update({row.path: row for row in rows})

    def quarantined_among(self, files: Sequence[FileVersion]) -> list[str]:
        return [file.path for file in files if file.path in self._quarantined]

    def release_settled(self, present: Sequence[SourceFile]) -> None:
        """Forgets quarantined files that were deleted, or put back to the version that was ingested."""
        if not self._quarantined:
            return
        versions = {file.name: file.version for file in present}
        gone = [
            path
            for path in self._quarantined
            if path not in versions or (path in self._ingested and self._ingested[path][0] == versions[path])
        ]
        if gone:
            self._catalog.release(self._dataset.id, gone)
            for path in gone:
                del self._quarantined[path]
