"""The files of a dataset that were looked at before: ingested ones and quarantined ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.storage.catalog import QuarantineRow, StorageCatalog
from modyn.storage.dataset import Dataset
from modyn.storage.folder import SourceFile
from modyn.storage.manifest import FileVersion, read_companions, read_files, read_keys, read_removed, read_runs


class KnownFiles:
    """Newest known version of every file. Only used under the dataset's scan lock."""

    def __init__(self, dataset: Dataset, catalog: StorageCatalog) -> None:
        self._dataset = dataset
        self._catalog = catalog
        self._ingested: dict[str, tuple[FileVersion, str]] = {}
        self._companions: dict[str, str] = {}
        self._read_manifests = 0
        self._quarantined = {row.path: row for row in catalog.quarantined(dataset.id)}

    @property
    def num_scans(self) -> int:
        """How many scans it has seen."""
        return self._read_manifests

    def refresh(self) -> None:
        """Takes in commits it has not seen, such as those of earlier processes."""
        self._dataset.refresh()
        unread = self._dataset.scans[self._read_manifests :]
        for scan in unread:
            folder = self._dataset.scans_folder / scan.manifest
            self._remember(read_files(folder), scan.manifest, read_companions(folder), read_removed(folder))
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

    def superseded_by(self, paths: Iterable[str]) -> tuple[Int64Array, Int64Array]:
        """Key ranges (starts, ends) of the samples that these files held so far, ascending."""
        by_manifest = self._by_manifest(path for path in paths if path in self._ingested)
        if not by_manifest:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        first_keys = {scan.manifest: scan.first_key for scan in self._dataset.scans}
        ranges = [
            read_runs(self._dataset.scans_folder / manifest, paths, first_keys[manifest])
            for manifest, paths in by_manifest.items()
        ]
        starts = np.concatenate([starts for starts, _ in ranges])
        ends = np.concatenate([ends for _, ends in ranges])
        order = np.argsort(starts, kind="stable")
        return starts[order], ends[order]

    def keys_of(self, paths: Iterable[str]) -> dict[str, Int64Array]:
        """Keys of the samples of ingested files, int64 [n] each, ascending."""
        first_keys = {scan.manifest: scan.first_key for scan in self._dataset.scans}
        keys: dict[str, Int64Array] = {}
        for manifest, names in self._by_manifest(paths).items():
            keys |= read_keys(self._dataset.scans_folder / manifest, names, first_keys[manifest])
        return keys

    def _by_manifest(self, paths: Iterable[str]) -> dict[str, list[str]]:
        by_manifest: dict[str, list[str]] = {}
        for path in paths:
            by_manifest.setdefault(self._ingested[path][1], []).append(path)
        return by_manifest

    def companions_changed(self, file: SourceFile, seen: str) -> bool:
        """Whether a file was ingested as it is, but with other companion files than now (see :func:`seen_as`)."""
        known = self._ingested.get(file.name)
        return known is not None and known[0] == file.version and self._companions.get(file.name, "") != seen

    def missing(self, names: Iterable[str]) -> list[str]:
        """Ingested files that are not among these."""
        return sorted(self._ingested.keys() - set(names))

    def add(
        self,
        files: Sequence[FileVersion],
        manifest: str,
        companions: Mapping[str, str] | None = None,
        removed: Sequence[str] = (),
    ) -> None:
        """These files are committed."""
        self._remember(files, manifest, companions or {}, removed)
        for file in files:
            self._quarantined.pop(file.path, None)

    def _remember(
        self, files: Sequence[FileVersion], manifest: str, companions: Mapping[str, str], removed: Sequence[str]
    ) -> None:
        self._read_manifests += 1
        for file in files:
            self._ingested[file.path] = (file, manifest)
            self._companions.pop(file.path, None)
        self._companions.update(companions)
        for path in removed:
            self._ingested.pop(path, None)
            self._companions.pop(path, None)

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


def seen_as(file: SourceFile) -> str:
    """The companion files of a file that exist, in the form in which a manifest keeps them."""
    present = (companion.version for _, companion in file.companions if companion is not None)
    return "\n".join(f"{version.path}\t{version.size}\t{version.mtime_ns}" for version in present)
