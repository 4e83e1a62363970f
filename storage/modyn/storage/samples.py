"""Reading samples: payload, label and timestamp of keys in any order, as batches of about 2 MiB.

The service and clients that read its files themselves share this, so both answer the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from modyn.core.arrow import MESSAGE_BYTES, Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.memory import keep_freed_memory
from modyn.storage.cold import ReadAhead
from modyn.storage.gather import Picks, gather_column
from modyn.storage.payload import PayloadPicks, PayloadReader
from modyn.storage.segments import Segment
from modyn.storage.values import Values, fixed_width, values_of
from modyn.storage.view import KeyCursor, View

WINDOW = 65_536
"""Keys looked up at once: labels and times are gathered for so many, which from many segments is
much faster than message by message."""

LARGE_MESSAGE_BYTES = 8 << 20
"""A batch that comes out larger, because the sizes of nested values were only estimated, is halved until it is not."""

SAMPLES_BYTES = 2 * MESSAGE_BYTES
"""Aimed-at size of a message: at both ends fewer ones cost less than 1 MiB each, and larger ones no less than these."""

LARGEST_BYTES = 3 * MESSAGE_BYTES
"""A message grows to this size if it then holds whole batches."""

FIXED_BYTES = 3 * 8
"""Of key, label and timestamp of a sample."""


class SampleSource(Protocol):
    """A part of a dataset that samples are read from."""

    @property
    def first_keys(self) -> Int64Array:
        """Of the segments, ascending."""

    @property
    def label_type(self) -> pa.DataType: ...

    def segment(self, index: int) -> Segment: ...

    def labels_of(self, keys: Int64Array, labels: pa.Array, timestamps: Int64Array) -> pa.Array:
        """The labels that count, of samples that were ingested with these."""


def read_samples(view: View, keys: KeySet, columns: Sequence[str], *, batch_rows: int = 1) -> Iterator[pa.RecordBatch]:
    """Samples in the order of ``keys``: key, label, timestamp, then payload columns (all if none are named).

    Keys must exist; those of deleted samples are left out. There is at least one batch, so that a reader always learns
    the schema.

    Args:
        batch_rows: batches have a multiple of so many rows where that fits into a message.

    Raises:
        InvalidInputError: there is no such column.
        CorruptDataError: a segment is damaged, or a file that samples lie in.
    """
    keep_freed_memory()
    reader = SampleReader(_Viewed(view), select(view.snapshot.schema.payload, payload_names(view, columns)))
    empty = True
    for wanted in reader.windows(keys, batch_rows):
        for batch in reader.batches(view.without_deleted(wanted), batch_rows):
            empty = False
            yield from _halved(batch)
    if empty:
        yield reader.none()


def payload_names(view: View, columns: Sequence[str]) -> list[str]:
    """The payload columns of these names, all if there are none.

    Raises:
        InvalidInputError: there is no such column.
    """
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


def select(schema: pa.Schema | None, names: Sequence[str]) -> pa.Schema:
    """Some columns of a payload schema, without metadata."""
    return pa.schema([] if schema is None else [schema.field(name) for name in names])


class SampleReader:
    """Gathers samples for one request; keeps what it knows of the segments it has used.

    Args:
        source: what to read from.
        payload: the payload columns to read.
    """

    def __init__(self, source: SampleSource, payload: pa.Schema) -> None:
        self._source = source
        self._payload = PayloadReader(payload, source.segment)
        self._fields = [pa.field("label", source.label_type), pa.field("timestamp", pa.int64())]
        self.schema = pa.schema([pa.field("key", pa.int64()), *self._fields, *payload])
        self._columns: dict[int, tuple[Values, Values]] = {}

    def none(self) -> pa.RecordBatch:
        return pa.record_batch([pa.nulls(0, field.type) for field in self.schema], schema=self.schema)

    def windows(self, keys: KeySet, batch_rows: int) -> Iterator[Int64Array]:
        """Keys to look up at once, in order: first those of a message or two, so that it is soon under way.

        Args:
            batch_rows: windows hold a multiple of so many keys, where that is fewer.
        """
        bytes_per_row = FIXED_BYTES + sum(fixed_width(field.type) or 0 for field in self._payload.schema)
        size = min(WINDOW // 2, max(1_024, SAMPLES_BYTES // bytes_per_row))
        cursor = KeyCursor(keys)
        while len(found := cursor.next(size - size % batch_rows if batch_rows <= size else size)):
            yield found
            size = WINDOW

    def batches(
        self, keys: Int64Array, batch_rows: int, *, target: int = SAMPLES_BYTES, largest: int = LARGEST_BYTES
    ) -> Iterator[pa.RecordBatch]:
        """Samples of keys that exist, in batches of about ``target`` bytes.

        Args:
            batch_rows: batches have a multiple of so many rows, unless one of so many is larger than ``largest`` bytes.
        """
        if len(keys) == 0:
            return
        segments = np.searchsorted(self._source.first_keys, keys, side="right").astype(np.int64, copy=False) - 1
        rows = keys - self._source.first_keys[segments]
        payload = self._payload.at(segments, rows)
        ends = np.cumsum(payload.sizes() + FIXED_BYTES)
        columns, picks = self._label_and_time(segments, rows)
        ahead = ReadAhead([(columns, picks), (payload.columns, payload.picks)], ends)
        labels, times = (
            gather_column(column, picks, field.type) for column, field in zip(columns, self._fields, strict=True)
        )
        labels = self._source.labels_of(keys, labels, times.to_numpy())
        for first, last in _cuts(ends, batch_rows, target, largest):
            ahead.before(last)
            yield self._batch(keys[first:last], labels.slice(first, last - first), times, payload, first)

    def _batch(
        self, keys: Int64Array, labels: pa.Array, times: pa.Array, payload: PayloadPicks, first: int
    ) -> pa.RecordBatch:
        found = payload.cut(first, first + len(keys)).batch()
        fixed = [pa.array(keys), labels, times.slice(first, len(keys))]
        return pa.record_batch([*fixed, *found.columns], schema=self.schema)

    def _label_and_time(self, segments: Int64Array, rows: Int64Array) -> tuple[list[list[Values]], Picks]:
        """The two columns of the segments in use."""
        picks = Picks(rows, segments)
        for index in picks.used:
            if index not in self._columns:
                columns = self._source.segment(index).columns
                label, time = self._fields
                self._columns[index] = (
                    values_of(columns.column(1), label.type),
                    values_of(columns.column(0), time.type),
                )
        used = [self._columns[index] for index in picks.used]
        numbered = Picks(rows, None if picks.parts is None else picks.used_index)
        return [[label for label, _ in used], [time for _, time in used]], numbered


class _Viewed:
    """A view as a source of samples."""

    def __init__(self, view: View) -> None:
        self.first_keys = view.snapshot.first_keys
        self.label_type = view.snapshot.label_type
        self.segment = view.segment
        self.labels_of = view.resolve_labels


def _cuts(ends: Int64Array, batch_rows: int, target: int, largest: int) -> Iterator[tuple[int, int]]:
    """Bounds of batches.

    Args:
        ends: bytes up to and with each row.
    """
    first, done, count, total = 0, 0, len(ends), int(ends[-1])
    size = total / max(1, round(total / target))  # so that none is left over
    while first < count:
        last = int(np.searchsorted(ends, done + size + 1, side="right"))
        if last - first >= batch_rows:
            last -= (last - first) % batch_rows
        elif batch_rows > 1 and ends[min(first + batch_rows, count) - 1] - done <= largest:
            last = min(first + batch_rows, count)
        last = max(last, first + 1)
        yield first, last
        first, done = last, int(ends[last - 1])


def _halved(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.nbytes <= LARGE_MESSAGE_BYTES or batch.num_rows == 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _halved(batch.slice(0, half))
    yield from _halved(batch.slice(half))
