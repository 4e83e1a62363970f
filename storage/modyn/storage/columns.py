"""Reading per-sample columns (keys, times, labels) of a view, as batches of about 1 MiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array, rows_per_message, slices
from modyn.core.keysets import KeySet
from modyn.proto.storage_pb2 import ReadColumnsRequest
from modyn.storage.gather import gather, take
from modyn.storage.view import KeyCursor, Part, Rows, Span, View, as_array, live_rows, segments_of

Column = ReadColumnsRequest.Column
Columns = Sequence[Column.ValueType]

BYTES_PER_VALUE = 8

_NAMES = {
    Column.TIMESTAMP: "timestamp",
    Column.ARRIVAL: "arrival",
    Column.LABEL: "label",
    Column.ROLE: "role",
    Column.LABEL_TIME: "label_time",
}


def columns_by_key(view: View, part: Part, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Columns of the live samples of a part, in key order."""
    batches = (_columns_of(view, index, rows, columns) for index, rows in live_rows(view, part))
    return _coalesced(batches, _empty(view, columns))


def columns_by_time(view: View, part: Part, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Columns of the live samples of a part, by (timestamp, key).

    Segments whose times do not overlap are sorted apart, so memory follows the overlap, not the part.
    """
    read = list(dict.fromkeys([*columns, Column.TIMESTAMP]))
    names = _empty(view, columns).schema.names

    def clusters() -> Iterator[pa.RecordBatch]:
        for segments in _clusters(view, part):
            parts = [_columns_of(view, index, rows, read) for index, rows in live_rows(view, part, segments)]
            if parts:
                yield _sorted_by_time(pa.concat_batches(parts)).select(names)

    return _coalesced(clusters(), _empty(view, columns))


def columns_of_keys(
    view: View, keys: KeySet, columns: Columns, *, end_key: int, arrival: Span, by_time: bool = False
) -> Iterator[pa.RecordBatch]:
    """Columns of given keys, superseded ones too but not deleted ones, in their order or by (timestamp, key)."""
    chunk = rows_per_message(BYTES_PER_VALUE * (1 + len(columns)))
    if by_time:
        read = list(dict.fromkeys([*columns, Column.TIMESTAMP]))
        found = list(columns_of_keys(view, keys, read, end_key=end_key, arrival=arrival))
        batches: Iterable[pa.RecordBatch] = [
            _sorted_by_time(pa.concat_batches(found)).select(_empty(view, columns).schema.names)
        ]
    else:
        batches = (
            _columns_at(view, _restricted(view, wanted, end_key, arrival), columns)
            for wanted in KeyCursor(keys).chunks(chunk)
        )
    return _coalesced(batches, _empty(view, columns))


def _columns_of(view: View, index: int, rows: Rows, columns: Columns) -> pa.RecordBatch:
    """Columns of rows of one segment."""
    keys = as_array(rows) + view.snapshot.first_keys[index]
    stored = take(view.columns(index), rows) if _STORED.intersection(columns) else None
    return _assembled(view, keys, stored, columns)


def _columns_at(view: View, keys: Int64Array, columns: Columns) -> pa.RecordBatch:
    """Columns of keys in any order."""
    if len(keys) == 0:
        return _empty(view, columns)
    stored = None
    if _STORED.intersection(columns):
        segments = view.snapshot.locate(keys)
        used, part_of_row = np.unique(segments, return_inverse=True)
        parts = [view.columns(index) for index in used.tolist()]
        stored = gather(parts, part_of_row, keys - view.snapshot.first_keys[segments])
    return _assembled(view, keys, stored, columns)


_STORED = frozenset((Column.TIMESTAMP, Column.LABEL, Column.LABEL_TIME))


def _assembled(view: View, keys: Int64Array, stored: pa.RecordBatch | None, columns: Columns) -> pa.RecordBatch:
    arrays = [pa.array(keys)]
    for column in columns:
        if column == Column.ARRIVAL:
            arrays.append(pa.array(view.arrivals(keys)))
        elif column == Column.ROLE:
            arrays.append(pa.array(view.roles(keys)))
        else:
            assert stored is not None  # its columns were asked for
            times = stored.column(0)
            labels = stored.column(1)
            if column == Column.TIMESTAMP:
                arrays.append(times)
            elif column == Column.LABEL:
                arrays.append(view.resolve_labels(keys, labels, times.to_numpy()))
            else:
                arrays.append(view.label_times(keys, labels, times.to_numpy()))
    return pa.record_batch(arrays, names=["key", *(_NAMES[column] for column in columns)])


def _empty(view: View, columns: Columns) -> pa.RecordBatch:
    none = np.empty(0, dtype=np.int64)
    stored = pa.record_batch([pa.array(none), pa.nulls(0, view.snapshot.label_type)], names=["timestamp", "label"])
    return _assembled(view, none, stored, columns)


def _restricted(view: View, keys: Int64Array, end_key: int, arrival: Span) -> Int64Array:
    keys = view.without_deleted(keys[keys < end_key])
    if arrival == Span():
        return keys
    arrivals = view.arrivals(keys)
    return keys[(arrivals >= arrival.start) & (arrivals < arrival.end)]


def _sorted_by_time(batch: pa.RecordBatch) -> pa.RecordBatch:
    times = batch.column("timestamp").to_numpy()
    keys = batch.column("key").to_numpy()
    if bool((times[1:] >= times[:-1]).all()) and bool((keys[1:] >= keys[:-1]).all()):
        return batch  # as data mostly arrive: looking costs a hundredth of sorting
    return take(batch, np.lexsort((keys, times)).astype(np.int64, copy=False))


def _clusters(view: View, part: Part) -> Iterator[Int64Array]:
    """Groups of segments such that all times of one group lie before all of the next."""
    segments = segments_of(view.snapshot, part)
    if len(segments) == 0:
        return
    table = view.snapshot.table
    by_time = segments[np.argsort(table.min_timestamps[segments], kind="stable")]
    latest = np.maximum.accumulate(table.max_timestamps[by_time])
    breaks = np.flatnonzero(table.min_timestamps[by_time][1:] > latest[:-1]) + 1
    for group in np.split(by_time, breaks):
        yield np.sort(group)


def _coalesced(batches: Iterable[pa.RecordBatch], empty: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Batches of one message each, at least one, so that a reader always learns the schema."""
    rows = rows_per_message(BYTES_PER_VALUE * empty.num_columns)
    pending: list[pa.RecordBatch] = []
    pending_rows = 0
    sent = False
    for batch in batches:
        pending.append(batch)
        pending_rows += batch.num_rows
        if pending_rows >= rows:
            whole = pa.concat_batches(pending) if len(pending) > 1 else batch
            for part in slices(whole.num_rows, rows):
                yield whole.slice(part.start, part.stop - part.start)
            pending, pending_rows, sent = [], 0, True
    if pending_rows or not sent:
        yield pa.concat_batches([empty, *pending])
