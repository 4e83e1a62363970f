"""Reading samples: payload, label and timestamp of keys in any order, as batches of about 1 MiB."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array, rows_per_message
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.storage.gather import gather
from modyn.storage.view import KeyCursor, View

LARGE_MESSAGE_BYTES = 8 << 20
"""A message that comes out larger, because its samples vary in size, is halved until it is not."""


def read_samples(view: View, keys: KeySet, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Samples in the order of ``keys``: key, label, timestamp, then payload columns (all if none are named).

    Keys must exist. There is at least one batch, so that a reader always learns the schema.

    Raises:
        InvalidInputError: there is no such column.
        CorruptDataError: a segment is damaged.
    """
    reader = _SampleReader(view, _payload_names(view, columns))
    cursor = KeyCursor(keys)
    bytes_per_row = view.snapshot.num_bytes / max(1, view.snapshot.end_key)
    if len(keys) == 0:
        yield reader.none()
    while len(wanted := cursor.next(rows_per_message(bytes_per_row))):
        batch = reader.at(wanted)
        yield from _halved(batch)
        bytes_per_row = batch.nbytes / batch.num_rows  # the next samples are likely to be as large as these


class _SampleReader:
    """Gathers samples for one request; keeps the segments it has used."""

    def __init__(self, view: View, names: list[str]) -> None:
        self._view = view
        self._names = names
        self._segments: dict[int, pa.RecordBatch] = {}

    def at(self, keys: Int64Array) -> pa.RecordBatch:
        snapshot = self._view.snapshot
        segments = snapshot.locate(keys)
        rows = keys - snapshot.first_keys[segments]
        used, part_of_row = np.unique(segments, return_inverse=True)
        stored = gather([self._segment(index) for index in used.tolist()], part_of_row, rows)
        return _with_keys(keys, stored)

    def none(self) -> pa.RecordBatch:
        snapshot = self._view.snapshot
        fields = [("label", snapshot.label_type), ("timestamp", pa.int64())]
        payload = [snapshot.schema.payload.field(name) for name in self._names] if snapshot.schema.payload else []
        schema = pa.schema([*(pa.field(*field) for field in fields), *payload])
        return _with_keys(
            np.empty(0, dtype=np.int64), pa.record_batch([pa.nulls(0, field.type) for field in schema], schema=schema)
        )

    def _segment(self, index: int) -> pa.RecordBatch:
        if index not in self._segments:
            columns = self._view.columns(index)
            payload = self._view.segment(index).payload.select(self._names)
            arrays = [columns.column(1), columns.column(0), *payload.columns]
            self._segments[index] = pa.record_batch(arrays, names=["label", "timestamp", *self._names])
        return self._segments[index]


def _with_keys(keys: Int64Array, stored: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch([pa.array(keys), *stored.columns], names=["key", *stored.schema.names])


def _payload_names(view: View, columns: Sequence[str]) -> list[str]:
    schema = view.snapshot.schema.payload
    known = [] if schema is None else schema.names
    for column in columns:
        if column not in known:
            close = difflib.get_close_matches(column, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InvalidInputError(
                f"dataset {view.name!r} has no payload column {column!r}{hint}; it has {', '.join(known) or 'none yet'}"
            )
    return list(columns) or known


def _halved(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.nbytes <= LARGE_MESSAGE_BYTES or batch.num_rows == 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _halved(batch.slice(0, half))
    yield from _halved(batch.slice(half))
