"""A dataset to read from: which rows of which segments an interval or key ranges mean, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.common_pb2 import Interval
from modyn.proto.storage_pb2 import Role
from modyn.storage.asof import NEWEST, AsOf
from modyn.storage.gather import as_slice, rows_of_ranges
from modyn.storage.index import KeyRuns, Snapshot
from modyn.storage.segments import Fetch, Segment, SegmentCache

MAX_KEYS_SHOWN = 10

Rows = slice | Int64Array
"""Rows of one segment in ascending order."""


@dataclass(frozen=True)
class Span:
    """Times ``start <= t < end``; open bounds lie beyond all int64."""

    start: int = -(2**63)
    end: int = 2**63

    @staticmethod
    def from_proto(interval: Interval) -> Span:
        start = interval.start if interval.HasField("start") else -(2**63)
        return Span(start, interval.end if interval.HasField("end") else 2**63)


@dataclass(frozen=True)
class Part:
    """Visible samples of key ranges, of an event-time span, or both.

    Attributes:
        end_key: keys from here on, and what was superseded later, are not seen.
        ranges: ascending and disjoint; None for all keys.
        training: samples that training may not see are left out.
    """

    end_key: int
    span: Span = Span()
    ranges: tuple[KeyRange, ...] | None = None
    arrival: Span = Span()
    training: bool = False


@dataclass(frozen=True, eq=False)
class View:
    """A snapshot together with the way to its segments' files.

    Attributes:
        folder: of the segments.
        as_of: which labels count.
        fetch: finds files of a remote source.
    """

    name: str
    snapshot: Snapshot
    folder: Path
    cache: SegmentCache
    as_of: AsOf = NEWEST
    fetch: Fetch | None = None

    def segment(self, index: int) -> Segment:
        info = self.snapshot.segments[index]
        return self.snapshot.pinned.get(info.name) or self.cache.get(self.folder, info, self.fetch)

    def columns(self, index: int) -> pa.RecordBatch:
        """``timestamp`` and ``label`` of a segment, labels as ingested but of the dataset's type."""
        segment = self.segment(index)
        labels = segment.labels
        if labels.type != self.snapshot.label_type:  # written before any label was known
            labels = pa.nulls(len(labels), self.snapshot.label_type)
        return pa.record_batch([segment.columns.column(0), labels], names=["timestamp", "label"])

    @property
    def has_late_labels(self) -> bool:
        """Whether labels may be others than those ingested."""
        return self.snapshot.label_version > 0 or not self.as_of.is_newest

    def resolve_labels(self, keys: Int64Array, labels: pa.Array, timestamps: Int64Array) -> pa.Array:
        """The labels that count, [n], of samples with these ingested ones."""
        if not self.has_late_labels or len(keys) == 0:
            return labels
        arrivals = None if self.as_of.arrival is None else self.arrivals(keys)
        return self.snapshot.labels.resolve(keys, labels, timestamps, arrivals, self.as_of)

    def label_times(self, keys: Int64Array, labels: pa.Array, timestamps: Int64Array) -> pa.Array:
        """When the labels that count became known, int64 [n], Unix seconds; null where it is the ingested one."""
        if not self.has_late_labels or len(keys) == 0:
            return pa.nulls(len(keys), pa.int64())
        arrivals = None if self.as_of.arrival is None else self.arrivals(keys)
        return self.snapshot.labels.label_times(keys, labels, timestamps, arrivals, self.as_of)

    def arrivals(self, keys: Int64Array) -> Int64Array:
        """Arrival times of existing keys, int64 [n], Unix seconds."""
        return self._varying(keys, "arrival", self.snapshot.table.min_arrivals)

    def roles(self, keys: Int64Array) -> npt.NDArray[np.int8]:
        """Roles of existing keys, int8 [n]."""
        return self._varying(keys, "role", self.snapshot.table.roles).astype(np.int8)

    def without_deleted(self, keys: Int64Array) -> Int64Array:
        """Keys in their order, but for those of deleted samples."""
        if len(self.snapshot.deleted.starts) == 0:
            return keys
        return keys[~self.snapshot.deleted.contains(keys)]

    def refuse_test(self, keys: KeySet) -> None:
        """
        Raises:
            InvalidInputError: some keys are of samples that training may not see; the message names them.
        """
        if not bool(np.isin(self.snapshot.table.roles, (0, Role.TEST)).any()):
            return
        array = keys.to_array()
        refused = array[self.roles(array) == Role.TEST]
        if len(refused):
            shown = ", ".join(map(str, np.unique(refused)[:MAX_KEYS_SHOWN].tolist()))
            more = f" and {len(refused) - MAX_KEYS_SHOWN} more" if len(refused) > MAX_KEYS_SHOWN else ""
            raise InvalidInputError(
                f"dataset {self.name!r}: training may not read test samples, but was asked for the keys {shown}{more} "
                f"({len(refused)} of {len(keys)}), whose role is `test`; select among the others, or give them another "
                "role in data.source"
            )

    def _varying(self, keys: Int64Array, name: str, constant: Int64Array) -> Int64Array:
        segments = self.snapshot.locate(keys)
        values: Int64Array = constant[segments].copy()
        for index in distinct(segments):
            column = None if self.snapshot.table.removed[index] else self.segment(index).varying(name)
            if column is not None:
                mine = segments == index
                values[mine] = column[keys[mine] - self.snapshot.first_keys[index]]
        return values


def distinct(segments: Int64Array) -> list[int]:
    """Which numbers of segments occur, ascending; counting is faster than sorting."""
    if len(segments) == 0:
        return []
    first = int(segments.min())
    used: list[int] = (np.flatnonzero(np.bincount(segments - first)) + first).tolist()
    return used


def segments_of(snapshot: Snapshot, part: Part) -> Int64Array:
    """Segments that overlap a part, ascending."""
    table = snapshot.table
    mask = (table.first_keys < part.end_key) & ~table.removed
    mask &= (table.max_arrivals >= part.arrival.start) & (table.min_arrivals < part.arrival.end)
    mask &= (table.max_timestamps >= part.span.start) & (table.min_timestamps < part.span.end)
    if part.training:
        mask &= table.roles != Role.TEST
    if part.ranges is not None:
        starts, ends = range_arrays(part.ranges)
        first_over = np.searchsorted(ends, table.first_keys, side="right")
        after_last = np.searchsorted(starts, table.end_keys, side="left")
        mask &= first_over < after_last
    return np.flatnonzero(mask).astype(np.int64, copy=False)


def live_rows(view: View, part: Part, segments: Int64Array | None = None) -> Iterator[tuple[int, Rows]]:
    """The visible rows of a part, segment by segment in key order; never empty ones."""
    snapshot = view.snapshot
    hidden = (snapshot.superseded.at(part.end_key), snapshot.deleted)
    ranges = None if part.ranges is None else range_arrays(part.ranges)
    for index in (segments_of(snapshot, part) if segments is None else segments).tolist():
        first_key = int(snapshot.first_keys[index])
        rows = _in_ranges(snapshot, index, part.end_key, ranges)
        for keys in hidden:
            rows = _without(keys, first_key, rows)
        rows = _in_span(view, index, rows, part.span)
        rows = _arrived(view, index, rows, part.arrival)
        if part.training:
            rows = _not_test(view, index, rows)
        if count(rows):
            yield index, rows


def count(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def as_array(rows: Rows) -> Int64Array:
    return np.arange(rows.start, rows.stop, dtype=np.int64) if isinstance(rows, slice) else rows


def range_arrays(ranges: tuple[KeyRange, ...]) -> tuple[Int64Array, Int64Array]:
    pairs = np.array([(r.start, r.end) for r in ranges], dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


class KeyCursor:
    """Walks over a key set in order; ranges are never expanded as a whole."""

    def __init__(self, keys: KeySet) -> None:
        self._array = keys.array
        self._length = len(keys)
        self._done = 0
        if keys.ranges is not None:
            self._starts, self._ends = range_arrays(keys.ranges)
            lengths = self._ends - self._starts
            self._offsets = np.cumsum(lengths) - lengths  # place of each range's first key

    def next(self, size: int) -> Int64Array:
        """The next keys, at most ``size``; none at the end."""
        first, last = self._done, min(self._done + size, self._length)
        self._done = last
        if self._array is not None:
            return self._array[first:last]
        if first == last:
            return np.empty(0, dtype=np.int64)
        low = int(np.searchsorted(self._offsets, first, side="right")) - 1
        high = int(np.searchsorted(self._offsets, last, side="left"))
        shift = self._starts[low:high] - self._offsets[low:high]
        begin = np.maximum(self._starts[low:high], shift + first)
        end = np.minimum(self._ends[low:high], shift + last)
        return rows_of_ranges(begin, end)

    def chunks(self, size: int) -> Iterator[Int64Array]:
        while len(keys := self.next(size)):
            yield keys


def _in_ranges(snapshot: Snapshot, index: int, end_key: int, ranges: tuple[Int64Array, Int64Array] | None) -> Rows:
    first = int(snapshot.first_keys[index])
    last = min(int(snapshot.table.end_keys[index]), end_key)
    if ranges is None:
        return slice(0, last - first)
    starts, ends = ranges
    low = int(np.searchsorted(ends, first, side="right"))
    high = max(low, int(np.searchsorted(starts, last, side="left")))
    begin = np.maximum(starts[low:high], first) - first
    end = np.minimum(ends[low:high], last) - first
    if high - low == 1:
        return slice(int(begin[0]), int(end[0]))
    return rows_of_ranges(begin, end)


def _in_span(view: View, index: int, rows: Rows, span: Span) -> Rows:
    table = view.snapshot.table
    if count(rows) == 0 or (table.min_timestamps[index] >= span.start and table.max_timestamps[index] < span.end):
        return rows
    return _within(view.segment(index).timestamps, rows, span)


def _arrived(view: View, index: int, rows: Rows, span: Span) -> Rows:
    table = view.snapshot.table
    if count(rows) == 0 or (table.min_arrivals[index] >= span.start and table.max_arrivals[index] < span.end):
        return rows
    arrivals = view.segment(index).varying("arrival")
    assert arrivals is not None  # they differ
    return _within(arrivals, rows, span)


_CHUNK_ROWS = 1 << 16


def _within(times: Int64Array, rows: Rows, span: Span) -> Rows:
    """Rows whose time lies in a span; looks at so many at once that what is in between stays in cache."""
    if not isinstance(rows, slice):
        found = times[rows]
        return as_slice(rows[(found >= span.start) & (found < span.end)])
    if span.end <= span.start:
        return slice(rows.start, rows.start)
    # One comparison tells: times before the start wrap around to huge distances from it.
    start = np.int64(max(span.start, -(2**63)))
    last = np.uint64(min(span.end, 2**63) - 1 - int(start))
    found_rows = []
    for first in range(rows.start, rows.stop, _CHUNK_ROWS):
        piece = times[first : min(first + _CHUNK_ROWS, rows.stop)]
        found_rows.append(np.flatnonzero((piece - start).view(np.uint64) <= last) + first)
    return as_slice(np.concatenate(found_rows).astype(np.int64, copy=False))


def _not_test(view: View, index: int, rows: Rows) -> Rows:
    if count(rows) == 0 or view.snapshot.table.roles[index] != 0:
        return rows
    roles = view.segment(index).varying("role")
    assert roles is not None  # they differ
    array = as_array(rows)
    return as_slice(array[roles[array] != Role.TEST])


def _without(hidden: KeyRuns, first_key: int, rows: Rows) -> Rows:
    if count(rows) == 0 or len(hidden.starts) == 0:
        return rows
    if isinstance(rows, slice):
        low, high = rows.start, rows.stop
    else:
        low, high = int(rows[0]), int(rows[-1]) + 1
    near = hidden.within(first_key + low, first_key + high)
    if near.start == near.stop:
        return rows
    array = as_array(rows)
    return as_slice(array[~hidden.contains(first_key + array)])
