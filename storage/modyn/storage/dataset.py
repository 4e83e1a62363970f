"""A dataset: what is committed, as a snapshot that readers take, and who waits for more.

:mod:`modyn.storage.writing` changes it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modyn.core.errors import CorruptDataError, InvalidInputError, UnavailableError
from modyn.core.files import fsync_directory, remove_leftovers
from modyn.core.keysets import KeyRange
from modyn.storage.asof import NEWEST, AsOf
from modyn.storage.catalog import DatasetRow, DatasetState, DeletionInfo, ScanRow, StorageCatalog
from modyn.storage.deletions import read_deletion
from modyn.storage.index import KeyRuns, SegmentTable, Snapshot, Superseded
from modyn.storage.labels import LabelHistory
from modyn.storage.manifest import read_superseded
from modyn.storage.segments import ARROW, MERGED, Fetch, Segment, SegmentCache, open_segment
from modyn.storage.staging import StagedSchema
from modyn.storage.view import View

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How often watchers look at the catalog in a process that does not write."""

_LOAD_ATTEMPTS = 10
"""How often a state is read again because another process has replaced files of it meanwhile."""


@dataclass(frozen=True)
class _Retired:
    """Files that no snapshot needs once the older ones are gone."""

    paths: tuple[Path, ...]
    snapshots: tuple[weakref.ref[Snapshot], ...]


class Dataset:
    """One dataset of a state directory. Safe to use from many threads.

    Args:
        row: as the catalog has it.
        folder: where its segments and manifests are.
        follows: tells whether another process may write to it, so that the catalog is asked for changes before every
            read.
        read_only: another process writes to it, and deletes files when it compacts.
    """

    def __init__(
        self,
        row: DatasetRow,
        folder: Path,
        catalog: StorageCatalog,
        cache: SegmentCache,
        *,
        follows: Callable[[], bool],
        read_only: bool = False,
    ) -> None:
        self.id = row.id
        self.name = row.name
        self.source = row.source
        self.role = row.role
        self.folder = folder
        self.fetch: Fetch | None = None
        self.forget: Callable[[str], None] | None = None
        """Deletes the local copy of a file of a remote source, by its URI."""
        self.changed = threading.Condition(threading.RLock())
        """Notified whenever there is a new snapshot. What follows is only changed while it is held."""
        self.follows = follows
        self.read_only = read_only
        self.closed = False
        self.stale = False
        """What is committed is not known for sure."""
        self.scans: list[ScanRow] = []
        """Of files, oldest first."""
        self.deletions: list[DeletionInfo] = []
        """Files of deleted keys."""
        self._complained = False
        self._catalog = catalog
        self._cache = cache
        self._snapshot = Snapshot(StagedSchema(None, None))
        self._older: list[weakref.ref[Snapshot]] = []
        self._retired: list[_Retired] = []
        self._load()

    @property
    def segments_folder(self) -> Path:
        return self.folder / "segments"

    @property
    def scans_folder(self) -> Path:
        return self.folder / "scans"

    @property
    def labels_folder(self) -> Path:
        return self.folder / "labels"

    @property
    def deletions_folder(self) -> Path:
        return self.folder / "deletions"

    # ------------------------------------------------------------------------------------------- reading

    @property
    def snapshot(self) -> Snapshot:
        """The newest state known to be committed."""
        try:
            self.refresh()
            self._complained = False
        except UnavailableError as error:  # what was known before is still true
            if not self._complained:
                logger.warning("dataset %r: %s", self.name, error.message)
            self._complained = True
        return self._snapshot

    def refresh(self) -> None:
        """Takes in what other processes have changed, or what became of a change whose answer was lost.

        Raises:
            UnavailableError: the catalog cannot be reached.
        """
        if not (self.stale or self.follows()):
            return
        with self.changed:
            if self.stale or self._catalog.version(self.id) != self._snapshot.version:
                self._load()
                self.stale = False

    def view(self, as_of: AsOf = NEWEST) -> View:
        """The newest committed state, to read from."""
        return View(self.name, self.snapshot, self.segments_folder, self._cache, as_of, self.fetch)

    def mark_stale(self) -> None:
        """The catalog may know more; it is asked before anything else is read or written."""
        with self.changed:
            self.stale = True

    def install(
        self, snapshot: Snapshot, *, scans: list[ScanRow] | None = None, deletions: list[DeletionInfo] | None = None
    ) -> None:
        """Makes a committed change visible, with the lists of scans and deletions where they changed."""
        with self.changed:
            if snapshot.version < self._snapshot.version:  # it was loaded from the catalog meanwhile, with a later one
                return
            self._older = [ref for ref in self._older if ref() is not None]
            self._older.append(weakref.ref(self._snapshot))
            self._snapshot = snapshot
            self.scans = self.scans if scans is None else scans
            self.deletions = self.deletions if deletions is None else deletions
            self.changed.notify_all()

    # ------------------------------------------------------------------------------------------- waiting

    def watch(self, cursor: int, is_wanted: Callable[[], bool]) -> Iterator[tuple[KeyRange, int]]:
        """Key ranges from ``cursor`` on with their arrival time, as they are committed.

        Ends when the dataset is closed, or when ``is_wanted`` says no after :meth:`wake`.
        """
        if cursor < 0 or cursor > self.snapshot.end_key:
            raise InvalidInputError(
                f"cursor {cursor} of dataset {self.name!r}: expected 0 to its end key, {self.snapshot.end_key}"
            )
        while True:
            with self.changed:
                while self.snapshot.end_key <= cursor and is_wanted() and not self.closed:
                    self.changed.wait(POLL_SECONDS if self.follows() else None)
                if self.closed or not is_wanted():
                    return
                view = self.view()
            yield from _arrivals(view, cursor)
            cursor = view.snapshot.end_key

    def wake(self) -> None:
        """Lets watchers look whether they are still wanted."""
        with self.changed:
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.remove_retired()

    def set_source(self, source: dict[str, Any]) -> None:
        self._catalog.set_source(self.id, source)
        self.source = source

    # ------------------------------------------------------------------------------------------- files

    def retire(self, paths: list[Path]) -> None:
        """Deletes files that the current snapshot does not need, as soon as nobody reads an older one."""
        with self.changed:
            self._retired.append(_Retired(tuple(paths), tuple(self._older)))
        self.remove_retired()

    def remove_retired(self) -> bool:
        """Deletes what can be deleted by now; whether there is more."""
        with self.changed:
            ready = [old for old in self._retired if all(ref() is None for ref in old.snapshots)]
            self._retired = [old for old in self._retired if old not in ready]
            waiting = bool(self._retired)
        for path in (path for old in ready for path in old.paths):
            self._cache.forget(path.parent, path.name)
            delete_path(path)
        return waiting

    def remove_uncommitted(self) -> None:
        """Deletes what a crash left behind: files that the catalog does not know. Only for the dataset's writer."""
        self._create_folders()
        state = self._catalog.load(self.id)
        remove_leftovers(self.folder)
        known = {
            self.segments_folder: {info.name for info in state.segments},
            self.scans_folder: {scan.manifest for scan in state.scans},
            self.labels_folder: {f"{label_file.name}.arrow" for label_file in state.label_files},
            self.deletions_folder: {f"{info.name}.arrow" for info in state.deletions},
        }
        for folder, names in known.items():
            for path in folder.iterdir():
                if path.name not in names:
                    logger.info("dataset %r: removing %s, left by a crash", self.name, path)
                    delete_path(path)

    def file_names(self) -> set[str]:
        """Names of all files and folders that the newest known state needs."""
        with self.changed:
            snapshot = self._snapshot
            names = {info.name for info in snapshot.segments} | {scan.manifest for scan in self.scans}
            arrow = [*(info.name for info in snapshot.labels.infos), *(info.name for info in self.deletions)]
        return names | {f"{name}.arrow" for name in arrow}

    def _create_folders(self) -> None:
        folders = (self.segments_folder, self.scans_folder, self.labels_folder, self.deletions_folder)
        for folder in (self.folder, *folders):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                fsync_directory(folder.parent)

    def _load(self) -> None:
        for attempt in range(_LOAD_ATTEMPTS):
            state = self._catalog.load(self.id)
            last = attempt == _LOAD_ATTEMPTS - 1
            try:
                snapshot = self._built(state)
            except CorruptDataError:
                if last or self._catalog.version(self.id) == state.row.version:
                    raise
                continue  # another process has compacted meanwhile
            if not self.read_only:
                break
            snapshot = replace(snapshot, pinned=self._pinned(state))
            if all(info.name in snapshot.pinned for info in state.segments if info.kind in (ARROW, MERGED)):
                break
            if self._catalog.version(self.id) == state.row.version:  # damaged ones; whoever reads them is told
                break
        self.source, self.role = state.row.source, state.row.role
        self.install(snapshot, scans=state.scans, deletions=state.deletions)

    def _built(self, state: DatasetState) -> Snapshot:
        superseded = Superseded()
        for scan in state.scans:
            if scan.num_superseded:
                ranges = read_superseded(self.scans_folder / scan.manifest)
                superseded = superseded.plus(*ranges, known_from=scan.end_key)
        return Snapshot(
            schema=state.row.schema,
            table=SegmentTable.of(state.segments),
            superseded=superseded,
            deleted=KeyRuns.union([read_deletion(self.deletions_folder, info) for info in state.deletions]),
            labels=LabelHistory.open(self.labels_folder, state.label_files),
            version=state.row.version,
            label_version=state.row.label_version,
            last_arrival=state.row.last_arrival,
            num_files=state.row.num_files,
        )

    def label_version_before(self, key: int) -> int:
        """Number of the last label batch that reached storage before a sample did; 0 if there is none."""
        return self._catalog.label_version_before(self.id, key) if self._snapshot.label_version else 0

    def _pinned(self, state: DatasetState) -> dict[str, Segment]:
        """Segments held open, as the process that writes may delete their files while they are read here."""
        known, found = self._snapshot.pinned, {}
        for info in state.segments:
            if info.kind in (ARROW, MERGED):
                with suppress(CorruptDataError):
                    found[info.name] = known.get(info.name) or open_segment(self.segments_folder, info)
        return found

    def next_arrival(self) -> int:
        """Now, unless the clock has gone back since the last change."""
        return max(int(time.time()), self._snapshot.last_arrival or 0)


def delete_path(path: Path) -> None:
    """Deletes a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _arrivals(view: View, cursor: int) -> Iterator[tuple[KeyRange, int]]:
    """Runs of keys from a cursor on that arrived at the same time."""
    table = view.snapshot.table
    pending: tuple[int, int, int] | None = None
    for index in range(int(np.searchsorted(table.end_keys, cursor, side="right")), len(table.infos)):
        first, end = max(cursor, int(table.first_keys[index])), int(table.end_keys[index])
        bounds, arrivals = np.array([first]), np.array([table.min_arrivals[index]])
        if table.min_arrivals[index] != table.max_arrivals[index]:
            times = view.arrivals(np.arange(first, end, dtype=np.int64))
            changes = np.concatenate(([0], np.flatnonzero(np.diff(times)) + 1))
            bounds, arrivals = first + changes, times[changes]
        for start, stop, arrival in zip(bounds.tolist(), [*bounds[1:].tolist(), end], arrivals.tolist(), strict=True):
            if pending is not None and pending[2] == arrival:
                pending = (pending[0], stop, arrival)
                continue
            if pending is not None:
                yield KeyRange(pending[0], pending[1]), pending[2]
            pending = (start, stop, arrival)
    if pending is not None:
        yield KeyRange(pending[0], pending[1]), pending[2]
