"""Compaction: small segments and label files become large ones, and the bytes of deleted samples are removed.

Keys never change, and neither does what a content digest says. New files are written first, one catalog transaction
puts them in the place of the old ones, and these are deleted once nobody reads them any more. A crash at any moment
leaves either the old or the new.

Which segments are joined: from the newest backwards, a segment joins while it is no larger than all newer ones
together, as in a log-structured merge tree. So a sample is rewritten at most log2(samples) times, and the number of
segments stays logarithmic in what has come since the last full one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.errors import CancelledError, ConflictError, CorruptDataError, ModynError
from modyn.core.files import fsync_directory, write_batch
from modyn.storage.contents import contents_of, write_contents
from modyn.storage.deletions import deletion_path, read_deletion, write_deletion
from modyn.storage.in_place import REMOTE, source_files
from modyn.storage.index import KeyRuns, SegmentTable, Snapshot
from modyn.storage.label_files import LabelFileInfo, file_path
from modyn.storage.label_merging import MAX_MERGED_LABELS, files_to_merge, merge_label_files
from modyn.storage.payload import gather_rows
from modyn.storage.segments import (
    ARROW,
    IN_PLACE,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_SAMPLES,
    MERGED,
    PAYLOAD_FILE,
    REMOVED,
    Columns,
    Segment,
    SegmentInfo,
    finish_segment,
    new_segment,
)
from modyn.storage.staging import write_all
from modyn.storage.view import View
from modyn.storage.writing import Writer

logger = logging.getLogger(__name__)

SMALL_SEGMENTS = 16
"""So many segments may wait to be joined before the background does it."""

REMOVAL_SECONDS = 600.0
"""How often the background removes the bytes of deleted samples; ``CompactDataset`` does it at once."""

PAUSE_SECONDS = 1.0
"""Between two looks of the background at what there is to do."""


@dataclass
class CompactionProgress:
    samples_done: int = 0
    samples_total: int = 0
    segments_before: int = 0
    segments_after: int = 0
    bytes_removed: int = 0


class Compactor:
    """Compacts one dataset. Safe to use from many threads; one works at a time."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._dataset = writer.dataset
        self._lock = threading.Lock()
        self._removed_at = time.monotonic()

    @property
    def _removal_is_due(self) -> bool:
        return (
            time.monotonic() - self._removed_at >= REMOVAL_SECONDS
            and sum(info.num_stored for info in self._dataset.deletions) > 0
        )

    def is_due(self) -> bool:
        """Whether the background has something to do."""
        snapshot = self._dataset.snapshot
        return (
            len(_newest_run(snapshot.segments)) >= SMALL_SEGMENTS
            or files_to_merge(snapshot.labels.infos) is not None
            or self._removal_is_due
        )

    def run(self, *, everything: bool) -> Iterator[CompactionProgress]:
        """Compacts, one step after the other.

        Args:
            everything: join all that can be joined; by default only what is worth it.

        Raises:
            ConflictError: another process writes to the dataset.
            CorruptDataError: something could not be read; all else is compacted.
        """
        with self._lock:
            self._writer.begin()
            snapshot = self._dataset.snapshot
            removes = everything or self._removal_is_due
            deletions = [info for info in self._dataset.deletions if info.num_stored and removes]
            deleted = KeyRuns.union([read_deletion(self._dataset.deletions_folder, info) for info in deletions])
            groups = _groups(snapshot, deleted, everything=everything)
            progress = CompactionProgress(
                samples_total=sum(info.num_samples for group in groups for info in group),
                segments_before=len(snapshot.segments),
                segments_after=len(snapshot.segments),
            )
            del snapshot  # while it is held, the files it needs are kept
            yield progress
            damage = ""
            for group in groups:
                try:
                    progress.bytes_removed += self._rewrite(group, deleted)
                except CorruptDataError as error:  # the others do not have to wait for its repair
                    damage = damage or error.message
                progress.samples_done += sum(info.num_samples for info in group)
                progress.segments_after = len(self._dataset.snapshot.segments)
                yield progress
            self._merge_labels(deleted, everything=everything)
            if deletions:
                self._removed_at = time.monotonic()
                if not damage:
                    self._finish_deletions([info.name for info in deletions])
            self._dataset.remove_retired()
            yield progress
            if damage:
                raise CorruptDataError(damage)

    # ----------------------------------------------------------------------------------------------- segments

    def _rewrite(self, group: Sequence[SegmentInfo], deleted: KeyRuns) -> int:
        """Puts new segments in the place of some that follow each other; the bytes won."""
        view = self._dataset.view()
        gone = KeyRuns.union([deleted, view.snapshot.deleted])
        new = write_all(view.folder, (_written(view, part, gone) for part in _parts(view, group, gone)))
        del view
        remote = [file for info in group if info.kind == IN_PLACE for file in self._remote_files(info)]
        with self._writer.lock, self._writer.of_no_effect([self._dataset.segments_folder / info.name for info in new]):
            self._replace(group, new)
        self._dataset.retire([self._dataset.segments_folder / info.name for info in group])
        for uri in remote:  # a local copy holds the deleted samples, too
            if self._dataset.forget is not None:
                self._dataset.forget(uri)
        return sum(i.payload_bytes + i.columns_bytes for i in group) - sum(
            i.payload_bytes + i.columns_bytes for i in new
        )

    def _remote_files(self, info: SegmentInfo) -> list[str]:
        files = source_files(self._dataset.segments_folder / info.name)
        return [file.path for file in files if file.where == REMOTE]

    def _replace(self, old: Sequence[SegmentInfo], new: Sequence[SegmentInfo]) -> None:
        snapshot = self._dataset.snapshot
        names = {info.name for info in old}
        kept = [info for info in snapshot.segments if info.name not in names]
        if len(kept) + len(old) != len(snapshot.segments):
            raise ConflictError("the dataset was compacted by another process; nothing was changed")
        segments = sorted([*kept, *new], key=lambda info: info.first_key)
        with self._writer.change(replace(snapshot, table=SegmentTable.of(segments))) as change:
            change.remove_segments(old)
            change.add_segments(new)

    # ------------------------------------------------------------------------------------- labels, deletions

    def _merge_labels(self, deleted: KeyRuns, *, everything: bool) -> None:
        dataset = self._dataset
        if everything:
            for run in _label_runs(dataset.snapshot.labels.infos):
                self._put_labels(run, dataset.snapshot)
        while (chosen := files_to_merge(dataset.snapshot.labels.infos)) is not None:
            self._put_labels(dataset.snapshot.labels.infos[chosen], dataset.snapshot)
        for info in dataset.snapshot.labels.holding(_keys(deleted)):  # rewritten without the labels of deleted samples
            self._put_labels([info], dataset.snapshot)

    def _put_labels(self, infos: Sequence[LabelFileInfo], snapshot: Snapshot) -> None:
        dataset = self._dataset
        old = list(infos)
        merged = merge_label_files(dataset.labels_folder, old, snapshot.label_type, snapshot.deleted.contains)
        with self._writer.lock, self._writer.of_no_effect([file_path(dataset.labels_folder, merged.name)]):
            now = dataset.snapshot
            new = replace(now, labels=now.labels.merged(dataset.labels_folder, merged))
            with self._writer.change(new) as change:
                change.remove_label_files([info.name for info in old])
                change.add_label_files([merged])
        dataset.retire([file_path(dataset.labels_folder, info.name) for info in old])

    def _finish_deletions(self, names: list[str]) -> None:
        """The bytes are gone; one file says of all these samples that they are deleted."""
        dataset = self._dataset
        folder = dataset.deletions_folder
        with self._writer.lock:
            state = dataset.deletions
            done = [info for info in state if info.name in names or info.num_stored == 0]
            merged = write_deletion(folder, KeyRuns.union([read_deletion(folder, info) for info in done]), num_stored=0)
            left = [*(info for info in state if info not in done), merged]
            with (
                self._writer.of_no_effect([deletion_path(folder, merged.name)]),
                self._writer.change(dataset.snapshot, deletions=left) as change,
            ):
                change.remove_deletions([info.name for info in done])
                change.add_deletions([merged])
        dataset.retire([deletion_path(folder, info.name) for info in done])


def _groups(snapshot: Snapshot, deleted: KeyRuns, *, everything: bool) -> list[list[SegmentInfo]]:
    """Segments to rewrite, each group into as few as possible."""
    segments = snapshot.segments
    holding = {
        info.name
        for info in segments
        if info.kind != REMOVED and len(deleted.clipped(info.first_key, info.end_key).starts)
    }
    groups = _runs(segments) if everything else [list(_newest_run(segments))]
    groups = [group for group in groups if len(group) >= (2 if everything else SMALL_SEGMENTS)]
    grouped = {info.name for group in groups for info in group}
    return [*groups, *([info] for info in segments if info.name in holding - grouped)]


def _label_runs(infos: Sequence[LabelFileInfo]) -> list[list[LabelFileInfo]]:
    """Neighbours that can be merged in memory."""
    runs: list[list[LabelFileInfo]] = [[]]
    for info in infos:
        if sum(other.num_labels for other in runs[-1]) + info.num_labels > MAX_MERGED_LABELS:
            runs.append([])
        runs[-1].append(info)
    return [run for run in runs if len(run) > 1]


def _can_join(info: SegmentInfo) -> bool:
    return info.kind in (ARROW, MERGED) and _size(info) <= 1 / 2


def _size(info: SegmentInfo) -> float:
    """As a share of the largest segment."""
    return max(info.num_samples / MAX_SEGMENT_SAMPLES, (info.payload_bytes + info.columns_bytes) / MAX_SEGMENT_BYTES)


def _runs(segments: Sequence[SegmentInfo]) -> list[list[SegmentInfo]]:
    """Neighbours that fit into one segment."""
    runs: list[list[SegmentInfo]] = []
    size = 0.0
    for info in segments:
        if not _can_join(info):
            runs.append([])
            size = 0.0
            continue
        if not runs or not runs[-1] or size + _size(info) > 1:
            runs.append([])
            size = 0.0
        runs[-1].append(info)
        size += _size(info)
    return [run for run in runs if run]


def _newest_run(segments: Sequence[SegmentInfo]) -> Sequence[SegmentInfo]:
    """The newest segments that are worth joining: the oldest that is no larger than all newer ones together, and these.

    So each that is left alone is larger than all newer ones together.
    """
    first, newer = len(segments), 0.0
    for index in reversed(range(len(segments))):
        size = _size(segments[index])
        if not _can_join(segments[index]) or newer + size > 1:
            break
        if size <= newer:
            first = index
        newer += size
    return segments[first:]


@dataclass(frozen=True)
class _Piece:
    """Rows of one segment."""

    info: SegmentInfo
    index: int
    start: int
    end: int


def _parts(view: View, group: Sequence[SegmentInfo], gone: KeyRuns) -> Iterator[list[_Piece]]:
    """The rows of a group in portions of one new segment each."""
    pieces = []
    for info in group:
        index = int(view.snapshot.locate(np.array([info.first_key], dtype=np.int64))[0])
        pieces.append(_Piece(info, index, 0, info.num_samples))
    if len(group) == 1 and group[0].kind == IN_PLACE:  # its bytes become ours now, and may be too many for one
        info = group[0]
        kept = np.flatnonzero(~gone.contains(np.arange(info.first_key, info.end_key, dtype=np.int64)))
        width = max(1, _bytes_per_row(view.segment(pieces[0].index), view.snapshot, kept))
        step = max(1, min(MAX_SEGMENT_SAMPLES, MAX_SEGMENT_BYTES // width))
        for start in range(0, group[0].num_samples, step):
            yield [replace(pieces[0], start=start, end=min(start + step, group[0].num_samples))]
        return
    yield pieces


def _bytes_per_row(segment: Segment, snapshot: Snapshot, kept: Int64Array) -> int:
    """Of some of the kept rows."""
    assert snapshot.schema.payload is not None  # there are samples
    if len(kept) == 0:
        return 0
    probe = kept[np.linspace(0, len(kept) - 1, num=16).astype(np.int64)]
    batch = gather_rows(segment, snapshot.schema.payload.names, probe)
    return int(batch.nbytes / len(probe)) + 1


def _written(view: View, pieces: list[_Piece], gone: KeyRuns) -> SegmentInfo:
    """A new segment with the rows of the pieces, deleted ones blank."""
    folder = view.folder
    first_key = pieces[0].info.first_key + pieces[0].start
    num_samples = sum(piece.end - piece.start for piece in pieces)
    deleted = gone.contains(np.arange(first_key, first_key + num_samples, dtype=np.int64))
    contents = [_contents(view, piece) for piece in pieces]
    roles = {piece.info.role for piece in pieces}
    facts: dict[str, Any] = {
        "first_key": first_key,
        "num_samples": num_samples,
        "min_arrival": min(piece.info.min_arrival for piece in pieces),
        "max_arrival": max(piece.info.max_arrival for piece in pieces),
        "role": roles.pop() if len(roles) == 1 else None,
    }
    if bool(deleted.all()):
        return _removed(folder, pieces, contents, facts)
    columns = _columns(view, pieces, deleted, facts)
    payload = _payload(view, pieces, deleted)
    with new_segment(folder) as new:
        size, checksum = write_batch(new / PAYLOAD_FILE, payload)
        said = {b"modyn.contents_digest": write_contents(new, contents)}
        info = finish_segment(new, columns, payload_bytes=size, payload_digest=checksum, kind=MERGED, metadata=said)
    return replace(info, **facts)


def _removed(folder: Path, pieces: list[_Piece], contents: list[pa.RecordBatch], facts: dict[str, Any]) -> SegmentInfo:
    with new_segment(folder) as new:
        checksum = write_contents(new, contents)
        fsync_directory(new)
        fsync_directory(folder)
    return replace(
        pieces[0].info,
        name=new.name,
        kind=REMOVED,
        num_unlabelled=facts["num_samples"],
        payload_bytes=0,
        columns_bytes=0,
        digest=checksum,
        **facts,
    )


def _contents(view: View, piece: _Piece) -> pa.RecordBatch:
    contents = contents_of(view.folder, piece.info)
    starts, ends = contents.column("first_key").to_numpy(), contents.column("end_key").to_numpy()
    first_key = piece.info.first_key
    return contents.filter(pa.array((ends > first_key + piece.start) & (starts < first_key + piece.end)))


def _columns(view: View, pieces: list[_Piece], deleted: npt.NDArray[np.bool_], facts: dict[str, Any]) -> Columns:
    times, labels, roles, arrivals = [], [], [], []
    for piece in pieces:
        rows = slice(piece.start, piece.end)
        segment = view.segment(piece.index)
        times.append(segment.timestamps[rows])
        labels.append(view.columns(piece.index).column(1).slice(piece.start, piece.end - piece.start))
        if facts["role"] is None:
            roles.append(_varying(segment, "role", piece, piece.info.role, np.int8))
        if facts["min_arrival"] != facts["max_arrival"]:
            arrivals.append(_varying(segment, "arrival", piece, piece.info.min_arrival, np.int64))
    timestamps: Int64Array = np.concatenate(times)
    timestamps[deleted] = timestamps[~deleted].min()  # tells nothing of them
    return Columns(
        timestamps,
        pc.if_else(pa.array(~deleted), pa.concat_arrays(labels), pa.scalar(None, labels[0].type))
        if bool(deleted.any())
        else pa.concat_arrays(labels),
        np.concatenate(roles) if roles else None,
        np.concatenate(arrivals) if arrivals else None,
    )


def _varying(segment: Segment, name: str, piece: _Piece, constant: int | None, dtype: type[np.integer]) -> Int64Array:
    column = segment.varying(name)
    if column is None:
        return np.full(piece.end - piece.start, constant, dtype=dtype)
    return column[piece.start : piece.end]


def _payload(view: View, pieces: list[_Piece], deleted: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    schema = view.snapshot.schema.payload
    assert schema is not None  # there are samples
    batches = []
    start = 0
    for piece in pieces:
        gone = deleted[start : start + piece.end - piece.start]
        start += len(gone)
        # Deleted samples are not read: the file they lay in may be gone, too.
        kept = np.flatnonzero(~gone)
        columns = [pa.nulls(0, field.type) for field in schema]
        if len(kept):
            columns = gather_rows(view.segment(piece.index), schema.names, kept + piece.start).columns
        batches.append(pa.record_batch([_spread(column, kept, gone) for column in columns], schema=schema))
    return pa.concat_batches(batches)


def _spread(column: pa.Array, kept: Int64Array, gone: npt.NDArray[np.bool_]) -> pa.Array:
    """The kept rows in their places, and nothing in those of the others: zeros in fixed-size values, else null."""
    if len(kept) == len(gone):
        return column
    rows = np.zeros(len(gone), dtype=np.int64)
    rows[kept] = np.arange(len(kept))
    spread = column.take(pa.array(rows, mask=gone))
    if column.null_count:
        return spread
    if pa.types.is_fixed_size_binary(column.type):
        return spread.fill_null(bytes(column.type.byte_width))
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return spread.fill_null(pa.scalar(0, column.type))
    return spread


def _keys(runs: KeyRuns) -> Int64Array:
    parts = [np.arange(start, end, dtype=np.int64) for start, end in zip(runs.starts, runs.ends, strict=True)]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


class Maintenance:
    """Compacts datasets in the background, in the process that writes to them."""

    def __init__(self) -> None:
        self._compactors: dict[Writer, Compactor] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def compactor(self, writer: Writer) -> Compactor:
        with self._lock:
            return self._compactors.setdefault(writer, Compactor(writer))

    def look_after(self, writer: Writer) -> None:
        """Looks at a dataset after each of its commits."""
        self.compactor(writer)
        writer.on_commit = self._woken

    def close(self) -> None:
        """Returns when the step at work is done."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _woken(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._work, name="compaction", daemon=True)
                self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        waiting = False
        while not self._stop.is_set():
            self._wake.wait(PAUSE_SECONDS if waiting else None)
            self._wake.clear()
            with self._lock:
                compactors = list(self._compactors.values())
            waiting = False
            for compactor in compactors:
                waiting |= self._look(compactor)

    def _look(self, compactor: Compactor) -> bool:
        """Whether there are files left to delete."""
        dataset = compactor._dataset
        try:
            if not self._stop.is_set() and compactor.is_due():
                for _ in compactor.run(everything=False):
                    if self._stop.is_set():
                        break
            return dataset.remove_retired()
        except CancelledError:
            return False
        except ModynError as error:
            logger.warning("dataset %r is not compacted now: %s", dataset.name, error.message)
        except Exception:  # compaction is only housekeeping
            logger.exception("dataset %r: compaction failed", dataset.name)
        return False
