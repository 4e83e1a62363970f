"""A dataset: what is committed, how more is committed, and who waits for it."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import CancelledError, ConflictError, InvalidInputError, UnavailableError
from modyn.core.files import fsync_directory, remove_leftovers
from modyn.core.keysets import KeyRange
from modyn.storage.catalog import CommitRow, DatasetRow, NewCommit, StorageCatalog
from modyn.storage.index import Commit, Snapshot
from modyn.storage.manifest import read_superseded
from modyn.storage.segments import SegmentCache, verify_segment
from modyn.storage.staging import StagedSchema, Staging
from modyn.storage.view import View

logger = logging.getLogger(__name__)

NO_RANGES = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


class Dataset:
    """One dataset of a state directory. Safe to use from many threads; one process writes to it.

    Args:
        row: as the catalog has it.
        folder: where its segments and manifests are.
    """

    def __init__(self, row: DatasetRow, folder: Path, catalog: StorageCatalog, cache: SegmentCache) -> None:
        self.id = row.id
        self.name = row.name
        self.source = row.source
        self.folder = folder
        self._catalog = catalog
        self._cache = cache
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._stale = False
        self._snapshot = Snapshot(StagedSchema(None, None))
        self.manifests: list[tuple[str, int]] = []
        """(folder, first key) of every scan so far, oldest first."""
        self._create_folders()
        self._load(remove_others=True)

    @property
    def snapshot(self) -> Snapshot:
        """The newest state known to be committed."""
        if self._stale:
            try:
                self.refresh()
            except UnavailableError as error:  # what was known before is still true
                logger.warning("dataset %r: %s", self.name, error.message)
        return self._snapshot

    def refresh(self) -> None:
        """Reads the catalog again if a commit's outcome is unknown.

        Raises:
            UnavailableError: the catalog cannot be reached.
        """
        with self._changed:
            if self._stale:
                self._load(remove_others=False)
                self._stale = False
                self._changed.notify_all()

    def view(self) -> View:
        """The newest committed state, to read from."""
        return View(self.name, self.snapshot, self.segments_folder, self._cache)

    @property
    def segments_folder(self) -> Path:
        return self.folder / "segments"

    @property
    def scans_folder(self) -> Path:
        return self.folder / "scans"

    # ------------------------------------------------------------------------------------------- writing

    def append(self, batch_id: str, staging: Staging) -> tuple[Commit, bool]:
        """Commits staged samples in the order in which they were added, exactly once per batch id.

        Returns:
            The commit, and whether the batch had been committed before.
        """
        # Samples that take their arrival as event time have to be written under the lock that fixes it.
        with self._changed if staging.needs_arrival else nullcontext():
            arrival = self._next_arrival() if staging.needs_arrival else None
            infos = staging.write(staging.order(by_time=False), arrival)
            try:
                commit, repeated = self.commit(NewCommit(infos, staging.schema, arrival, batch_id))
            except (ConflictError, CancelledError):  # after any other error the commit may have taken place
                staging.discard(infos)
                raise
        if repeated:
            staging.discard(infos)
        return commit, repeated

    def commit(self, new: NewCommit, superseded: tuple[Int64Array, Int64Array] = NO_RANGES) -> tuple[Commit, bool]:
        """Makes written segments visible, under the next keys.

        Args:
            superseded: ranges (starts, ends) of earlier keys that this commit replaces.

        Raises:
            ConflictError: another commit has fixed another schema meanwhile.
            CancelledError: the dataset is closed: what is not committed may be removed by the next process already.
        """
        with self._changed:
            if self._closed:
                raise CancelledError(f"the storage service stops; nothing was added to {self.name!r}, try again later")
            self.refresh()
            snapshot = self._snapshot
            _check_schema(snapshot.schema, new.schema)
            schema = StagedSchema(
                snapshot.schema.payload or new.schema.payload, snapshot.schema.label or new.schema.label
            )
            new = replace(new, schema=schema)
            arrival = self._next_arrival() if new.arrival is None else new.arrival
            try:
                commit, repeated = self._catalog.add_commit(
                    self.id, new, arrival=arrival, expected_end_key=snapshot.end_key
                )
            except BaseException:
                self._stale = True  # if the answer was lost, only the catalog knows whether the commit took place
                raise
            if repeated:
                return commit, True
            snapshot = snapshot.plus([(commit, list(new.segments))], schema)
            self._snapshot = snapshot.superseding(*superseded, known_from=commit.end_key)
            if new.manifest is not None:
                self.manifests.append((new.manifest, commit.first_key))
            self._changed.notify_all()
            return commit, False

    def _next_arrival(self) -> int:
        """Now, unless the clock has gone back since the last commit."""
        return max(int(time.time()), self._snapshot.last_arrival or 0)

    def find_batch(self, batch_id: str) -> Commit | None:
        """The commit of an appended batch, if there was one."""
        self.refresh()
        return self._catalog.find_batch(self.id, batch_id)

    def verify(self) -> None:
        """Compares the checksums of all segments.

        Raises:
            CorruptDataError: one does not match; the message names its file.
        """
        for info in self.snapshot.segments:
            verify_segment(self.segments_folder, info)

    # ------------------------------------------------------------------------------------------- waiting

    def watch(self, cursor: int, is_wanted: Callable[[], bool]) -> Iterator[tuple[KeyRange, int]]:
        """Key ranges from ``cursor`` on with their arrival time, as they are committed.

        Ends when the dataset is closed, or when ``is_wanted`` says no after :meth:`wake`.
        """
        if cursor < 0 or cursor > self.snapshot.end_key:
            raise InvalidInputError(
                f"cursor {cursor} of dataset {self.name!r}: expected 0 to its end key, {self.snapshot.end_key}"
            )
        seen = 0
        while True:
            with self._changed:
                while len(self.snapshot.commits) <= seen and is_wanted() and not self._closed:
                    self._changed.wait()
                if self._closed or not is_wanted():
                    return
                commits = self._snapshot.commits
            for commit in commits[seen:]:
                if commit.end_key > max(cursor, commit.first_key):
                    yield KeyRange(max(cursor, commit.first_key), commit.end_key), commit.arrival
            seen = len(commits)

    def wake(self) -> None:
        """Lets watchers look whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def set_source(self, source: dict[str, Any]) -> None:
        self._catalog.set_source(self.id, source)
        self.source = source

    # ------------------------------------------------------------------------------------------- loading

    def _create_folders(self) -> None:
        for folder in (self.folder, self.segments_folder, self.scans_folder):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                fsync_directory(folder.parent)

    def _load(self, *, remove_others: bool) -> None:
        row, commits = self._catalog.load(self.id)
        snapshot = Snapshot(row.schema).plus([(c.commit, c.segments) for c in commits], row.schema)
        for c in commits:
            if c.num_superseded and c.manifest is not None:
                ranges = read_superseded(self.scans_folder / c.manifest)
                snapshot = snapshot.superseding(*ranges, known_from=c.commit.end_key)
        self.manifests = [(c.manifest, c.commit.first_key) for c in commits if c.manifest is not None]
        self._snapshot = snapshot
        if remove_others:
            self._remove_uncommitted(commits)

    def _remove_uncommitted(self, commits: list[CommitRow]) -> None:
        """Deletes what a crash left behind: files whose commit never took place."""
        remove_leftovers(self.folder)
        segments = {info.name for c in commits for info in c.segments}
        manifests = {c.manifest for c in commits}
        for folder, known in ((self.segments_folder, segments), (self.scans_folder, manifests)):
            for path in folder.iterdir():
                if path.name not in known:
                    logger.info("dataset %r: removing %s, left by a crash", self.name, path)
                    shutil.rmtree(path, ignore_errors=True)


def _check_schema(committed: StagedSchema, new: StagedSchema) -> None:
    """Two first writers may have started before either had committed."""
    for what, old, other in (("columns", committed.payload, new.payload), ("labels", committed.label, new.label)):
        if old is not None and other is not None and old != other:
            raise ConflictError(
                f"other samples fixed the dataset's {what} meanwhile: expected {old}, got {other}; try again"
            )
