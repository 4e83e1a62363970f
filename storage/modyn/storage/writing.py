"""Changing a dataset: everything that is committed goes through a :class:`Writer`.

What is written to disk first is of no effect until one catalog transaction makes it visible; what a crash leaves
behind is deleted when the next writer starts. Transactions of a dataset follow one another under one lock and carry a
fence: the writing lease, and the version of the dataset they start from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CancelledError, ConflictError, CorruptDataError, InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.storage.catalog import Change, DatasetRow, DeletionInfo, Fence, LabelBatchRow, ScanRow, StorageCatalog
from modyn.storage.columns import Column, columns_of_keys
from modyn.storage.dataset import Dataset, delete_path
from modyn.storage.deletions import deletion_path, write_deletion
from modyn.storage.index import AppendedBatch, KeyRuns, Snapshot
from modyn.storage.label_batches import check_label_batch, count_corrected
from modyn.storage.label_files import file_path, write_label_file
from modyn.storage.leases import Leases
from modyn.storage.segments import SegmentInfo, delete_segment
from modyn.storage.staging import StagedSchema, Staging
from modyn.storage.view import Span

GROUP_BYTES = 8 << 20
"""Appended batches below this size that wait at the same moment become one segment; larger ones have their own."""


@dataclass(eq=False)
class _Waiting:
    """An appended batch that waits for its commit."""

    batch_id: str
    staging: Staging
    infos: list[SegmentInfo] | None = None
    """Set while it is written by itself but in no change."""
    done: tuple[AppendedBatch, bool] | None = None
    error: BaseException | None = None

    @property
    def finished(self) -> bool:
        return self.done is not None or self.error is not None


@dataclass(frozen=True)
class NewScan:
    """What a scan found, beside its samples."""

    manifest: str
    superseded: KeyRuns
    num_new_files: int
    released: Sequence[str] = field(default=())
    """Paths that are quarantined no longer."""
    num_scans: int | None = None
    """Earlier ones that it took into account; None: they do not matter."""


class Writer:
    """The one writer of a dataset. Safe to use from many threads."""

    def __init__(self, dataset: Dataset, catalog: StorageCatalog, leases: Leases) -> None:
        self.dataset = dataset
        self.lock = threading.RLock()
        """Held while a change is committed."""
        self.on_commit: Callable[[], None] = lambda: None
        """Called after every commit."""
        self._catalog = catalog
        self._leases = leases
        self._waiting: list[_Waiting] = []
        self._waiting_lock = threading.Lock()
        self._cleaned = False
        self._unsure: list[Path] = []
        """Files of failed changes."""

    def begin(self) -> None:
        """Takes the writing lease; to be called before anything is written to disk.

        Raises:
            ConflictError: another process writes to the dataset, or this service serves reads only.
            CancelledError: the service stops.
        """
        dataset = self.dataset
        if dataset.closed:
            raise CancelledError(f"the storage service stops; nothing was changed in {dataset.name!r}, try again later")
        if not self._leases.hold(dataset.id, dataset.name) and self._cleaned:
            return
        with self.lock:
            if not self._cleaned:
                dataset.remove_uncommitted()  # before anything of this process could be among it
                self._cleaned = True
            dataset.mark_stale()  # another process may have written before
            dataset.refresh()

    # ------------------------------------------------------------------------------------------- samples

    def find_batch(self, batch_id: str) -> AppendedBatch | None:
        """What an earlier append with this batch id added."""
        known = self._catalog.find_batch(self.dataset.id, batch_id)
        if known is not None and known.end_key > self.dataset.snapshot.end_key:
            self.dataset.mark_stale()  # its answer was lost
        return known

    def append(self, batch_id: str, staging: Staging) -> tuple[AppendedBatch, bool]:
        """Commits staged samples in the order in which they were added, exactly once per batch id.

        Batches that wait for each other share the files and the transaction.

        Returns:
            What was added, and whether it had been before.
        """
        self.begin()
        waiting = _Waiting(batch_id, staging)
        if not staging.needs_arrival and not _is_small(staging):
            waiting.infos = staging.write(staging.order(by_time=False))
        with self._waiting_lock:
            self._waiting.append(waiting)
        with self.lock:
            if not waiting.finished:
                self._commit_waiting()
        if waiting.error is not None:
            raise waiting.error
        assert waiting.done is not None  # or there is an error
        return waiting.done

    def _commit_waiting(self) -> None:
        with self._waiting_lock:
            group, self._waiting = self._waiting, []
        first: dict[str, _Waiting] = {}
        for waiting in group:
            first.setdefault(waiting.batch_id, waiting)
        new: list[_Waiting] = []
        for waiting in first.values():
            with self._told([waiting]):
                if not self._is_repeated(waiting):
                    new.append(waiting)
        small = [waiting for waiting in new if waiting.infos is None and _is_small(waiting.staging)]
        if small:
            with self._told(small):
                self._commit_small(small)
        for waiting in new:
            if waiting not in small:
                with self._told([waiting]):
                    self._commit_large(waiting)
        for waiting in group:  # the same batch, sent twice at the same moment
            if not waiting.finished:
                known = first[waiting.batch_id]
                waiting.error = known.error
                waiting.done = None if known.done is None else (known.done[0], True)
                self._discard(waiting)

    @contextmanager
    def _told(self, batches: list[_Waiting]) -> Iterator[None]:
        """The callers of these batches get what goes wrong; other batches go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - told to every caller
            for waiting in batches:
                if not waiting.finished:
                    waiting.error = error
                    self._discard(waiting)

    def _is_repeated(self, waiting: _Waiting) -> bool:
        known = self.find_batch(waiting.batch_id)
        if known is None:
            return False
        waiting.done = (known, True)
        self._discard(waiting)
        return True

    def _discard(self, waiting: _Waiting) -> None:
        for info in waiting.infos or ():
            delete_segment(self.dataset.segments_folder, info.name)

    def _commit_small(self, group: list[_Waiting]) -> None:
        """Batches that are written together."""
        joined = Staging(self.dataset.folder, self.dataset.snapshot.schema)
        taken: list[_Waiting] = []
        try:
            for waiting in group:
                try:
                    joined.adopt(waiting.staging)
                    taken.append(waiting)
                except CorruptDataError as error:  # another batch of the group has fixed another schema
                    waiting.error = InvalidInputError(f"batch {waiting.batch_id!r}: {error.message}")
            if taken:
                arrival = self.dataset.next_arrival()
                infos = joined.write(joined.order(by_time=False), arrival)
                self._add([(waiting, waiting.staging.num_rows) for waiting in taken], infos, joined.schema, arrival)
        finally:
            joined.close()

    def _commit_large(self, waiting: _Waiting) -> None:
        arrival = self.dataset.next_arrival()
        staging = waiting.staging
        infos, waiting.infos = waiting.infos, None
        if infos is None:  # its arrival, which is some samples' event time, is only known now
            infos = staging.write(staging.order(by_time=False), arrival)
        self._add([(waiting, staging.num_rows)], infos, staging.schema, arrival)

    def _add(
        self, batches: list[tuple[_Waiting, int]], infos: list[SegmentInfo], schema: StagedSchema, arrival: int
    ) -> None:
        with self.of_no_effect(self._paths(infos)), self._new_segments(infos, schema, arrival) as change:
            key = self.dataset.snapshot.end_key
            added: list[tuple[str, AppendedBatch]] = []
            for waiting, size in batches:
                added.append((waiting.batch_id, AppendedBatch(key, key + size, arrival)))
                key += size
            change.add_batches(added)
        for (waiting, _), (_, batch) in zip(batches, added, strict=True):
            waiting.done = (batch, False)

    def add_scan(self, infos: list[SegmentInfo], schema: StagedSchema, scan: NewScan) -> int:
        """Commits what a scan found; its first key.

        Raises:
            ConflictError: another process writes to the dataset, or has ingested files since the scan began.
        """
        dataset = self.dataset
        with self.lock, self.of_no_effect([dataset.scans_folder / scan.manifest]):
            self.begin()
            if scan.num_scans not in (None, len(dataset.scans)):
                raise ConflictError(f"another process has ingested files of {dataset.name!r} meanwhile; try again")
            first_key = dataset.snapshot.end_key
            end_key = first_key + sum(info.num_samples for info in infos)
            row = ScanRow(scan.manifest, first_key, end_key, len(scan.superseded))
            with self._new_segments(infos, schema, dataset.next_arrival(), scan, row) as change:
                change.add_scan(row, scan.released)
            return first_key

    @contextmanager
    def _new_segments(
        self,
        infos: list[SegmentInfo],
        schema: StagedSchema,
        arrival: int,
        scan: NewScan | None = None,
        row: ScanRow | None = None,
    ) -> Iterator[Change]:
        snapshot = self.dataset.snapshot
        schema = _agreed(snapshot.schema, schema)
        placed = _placed(infos, snapshot.end_key, arrival)
        new = snapshot.plus(
            placed,
            schema=schema,
            last_arrival=arrival,
            num_files=snapshot.num_files + (scan.num_new_files if scan else 0),
        )
        if scan is not None and len(scan.superseded):
            gone = snapshot.superseded.plus(scan.superseded.starts, scan.superseded.ends, known_from=new.end_key)
            new = replace(new, superseded=gone)
        with self.change(new, scans=None if row is None else [*self.dataset.scans, row]) as change:
            change.add_segments(placed)
            yield change

    def _paths(self, infos: Sequence[SegmentInfo]) -> list[Path]:
        return [self.dataset.segments_folder / info.name for info in infos]

    # -------------------------------------------------------------------------------------- labels, deletion

    def find_label_batch(self, batch_id: str) -> LabelBatchRow | None:
        """What an earlier ``SetLabels`` with this batch id did."""
        known = self._catalog.find_label_batch(self.dataset.id, batch_id)
        if known is not None and known.version > self.dataset.snapshot.label_version:
            self.dataset.mark_stale()  # its answer was lost
        return known

    def column(self, keys: Int64Array, column: Column.ValueType) -> pa.Array:
        """Newest labels, or another column, of existing keys that are not deleted, [n]."""
        view = self.dataset.view()
        found = columns_of_keys(view, KeySet(array=keys), [column], end_key=view.snapshot.end_key, arrival=Span())
        return pa.concat_batches(list(found)).column(1)

    def set_labels(
        self, batch_id: str, keys: pa.Array, labels: pa.Array, times: pa.Array | None
    ) -> tuple[LabelBatchRow, bool]:
        """Commits later labels, exactly once per batch id. Those of deleted samples are left out.

        Args:
            keys, labels, times: as :func:`modyn.storage.label_batches.check_label_batch` takes them, [n]; no times for
                that of their arrival.

        Returns:
            What the batch did, and whether it had been committed before.

        Raises:
            InvalidInputError: a key, label or time is wrong; the message names the first ones.
        """
        with self.lock:
            self.begin()
            known = self.find_label_batch(batch_id)
            if known is not None:
                return known, True
            snapshot = self.dataset.snapshot
            version, arrival = snapshot.label_version + 1, self.dataset.next_arrival()
            new_labels = check_label_batch(
                keys,
                labels,
                arrival if times is None else times,
                end_key=snapshot.end_key,
                label_type=snapshot.schema.label,
                is_deleted=snapshot.deleted.contains,
            )
            schema = snapshot.schema
            if schema.label is None and not pa.types.is_null(new_labels.labels.type):
                schema = StagedSchema(schema.payload, new_labels.labels.type)
            num_corrected = count_corrected(new_labels.labels, self.column(new_labels.keys, Column.LABEL))
            folder = self.dataset.labels_folder
            info = write_label_file(
                folder,
                new_labels.keys,
                new_labels.labels,
                new_labels.label_times,
                version=version,
                arrival=arrival,
            )
            batch = LabelBatchRow(version, arrival, len(new_labels.keys), num_corrected, snapshot.end_key)
            with self.of_no_effect([file_path(folder, info.name)]):
                new = replace(
                    snapshot,
                    schema=schema,
                    labels=snapshot.labels.plus(folder, info),
                    label_version=version,
                    last_arrival=arrival,
                )
                with self.change(new) as change:
                    change.add_label_files([info])
                    change.add_label_batch(batch_id, batch)
            return batch, False

    def delete(self, keys: Int64Array) -> tuple[KeyRuns, int]:
        """Deletes samples by their existing keys.

        Returns:
            The samples that are deleted now, and how many of the keys had been before.
        """
        with self.lock:
            self.begin()
            snapshot = self.dataset.snapshot
            distinct = np.unique(keys)
            before = int(snapshot.deleted.contains(distinct).sum())
            runs = KeyRuns.of_keys(distinct[~snapshot.deleted.contains(distinct)])
            if len(runs) == 0:
                return runs, before
            info = write_deletion(self.dataset.deletions_folder, runs, num_stored=len(runs))
            new = replace(snapshot, deleted=KeyRuns.union([snapshot.deleted, runs]))
            with (
                self.of_no_effect([deletion_path(self.dataset.deletions_folder, info.name)]),
                self.change(new, deletions=[*self.dataset.deletions, info]) as change,
            ):
                change.add_deletions([info])
            return runs, before

    # ------------------------------------------------------------------------------------------- committing

    @contextmanager
    def change(
        self, new: Snapshot, *, scans: list[ScanRow] | None = None, deletions: list[DeletionInfo] | None = None
    ) -> Iterator[Change]:
        """One catalog transaction after which the dataset is ``new``, but for its version. The lock is held.

        Args:
            scans, deletions: the dataset's afterwards, where they change.

        Raises:
            ConflictError: another process writes to the dataset; nothing was changed.
            CancelledError: the dataset is closed: what is not committed may be removed by the next process already.
        """
        dataset = self.dataset
        if dataset.closed:
            raise CancelledError(f"the storage service stops; nothing was changed in {dataset.name!r}, try again later")
        dataset.refresh()
        version = new.version
        new = replace(new, version=version + 1)
        try:
            with self._catalog.change(dataset.id, Fence(self._leases.holder, version)) as change:
                change.update(self._row(new))
                yield change
        except ConflictError:
            self._leases.lost(dataset.id)
            dataset.mark_stale()
            raise
        except BaseException:
            dataset.mark_stale()  # if the answer was lost, only the catalog knows whether the change took place
            raise
        dataset.install(new, scans=scans, deletions=deletions)
        self._remove_unsure()
        self.on_commit()

    def discard(self, infos: Sequence[SegmentInfo]) -> None:
        """Deletes written segments, unless they are or may be committed."""
        with self.lock:
            self._unsure.extend(self._paths(infos))
            self._remove_unsure()

    @contextmanager
    def of_no_effect(self, paths: Sequence[Path]) -> Iterator[None]:
        """Deletes files or folders that a change in this block would have made visible, if it does not take place.

        The lock is held. When the answer of the catalog was lost it may have taken place; they are kept until it is
        known.
        """
        try:
            yield
        except BaseException:
            self._unsure.extend(paths)
            self._remove_unsure()
            raise

    def _remove_unsure(self) -> None:
        if not self._unsure:
            return
        dataset = self.dataset
        try:
            self._catalog.settle(dataset.id)
            dataset.mark_stale()
            dataset.refresh()
        except ModynError:  # after the next change, then
            return
        paths, self._unsure = self._unsure, []
        known = dataset.file_names()
        for path in paths:
            if path.name not in known:
                delete_path(path)

    def _row(self, snapshot: Snapshot) -> DatasetRow:
        dataset = self.dataset
        return DatasetRow(
            id=dataset.id,
            name=dataset.name,
            folder=dataset.folder.name,
            source=dataset.source,
            role=dataset.role,
            schema=snapshot.schema,
            version=snapshot.version,
            end_key=snapshot.end_key,
            last_arrival=snapshot.last_arrival,
            num_files=snapshot.num_files,
            label_version=snapshot.label_version,
        )


def _is_small(staging: Staging) -> bool:
    size = staging.num_bytes
    return size is not None and size <= GROUP_BYTES


def _placed(infos: Sequence[SegmentInfo], first_key: int, arrival: int) -> list[SegmentInfo]:
    """Written segments with their keys and arrival."""
    placed = []
    for info in infos:
        placed.append(replace(info, first_key=first_key, min_arrival=arrival, max_arrival=arrival))
        first_key += info.num_samples
    return placed


def _agreed(committed: StagedSchema, new: StagedSchema) -> StagedSchema:
    """Two first writers may have started before either had committed."""
    for what, old, other in (("columns", committed.payload, new.payload), ("labels", committed.label, new.label)):
        if old is not None and other is not None and old != other:
            raise ConflictError(
                f"other samples fixed the dataset's {what} meanwhile: expected {old}, got {other}; try again"
            )
    return StagedSchema(committed.payload or new.payload, committed.label or new.label)
