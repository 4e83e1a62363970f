"""Parts of a dataset: which rows of which segments an interval or key ranges mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.common_pb2 import Interval
from modyn.storage.gather import as_slice, rows_of_ranges
from modyn.storage.index import Snapshot, Superseded
from modyn.storage.segments import Segment, SegmentCache

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
    """Live samples of key ranges, of an event-time span, or both.

    Attributes:
        ranges: ascending and disjoint; None for all keys.
        end_key: keys from here on, and what was superseded later, are not seen.
    """

    end_key: int
    span: Span = Span()
    ranges: tuple[KeyRange, ...] | None = None
    arrival: Span = Span()


@dataclass(frozen=True, eq=False)
class View:
    """A snapshot together with the way to its segments' files."""

    name: str
    snapshot: Snapshot
    folder: Path
    cache: SegmentCache

    def segment(self, index: int) -> Segment:
        return self.cache.get(self.folder, self.snapshot.segments[index])

    def columns(self, index: int) -> pa.RecordBatch:
        """``timestamp`` and ``label`` of a segment, labels of the dataset's type."""
        segment = self.segment(index)
        labels = segment.labels
        if labels.type != self.snapshot.label_type:  # written before any label was known
            labels = pa.nulls(len(labels), self.snapshot.label_type)
        return pa.record_batch([segment.columns.column(0), labels], names=["timestamp", "label"])


def segments_of(snapshot: Snapshot, part: Part) -> Int64Array:
    """Segments that overlap a part, ascending."""
    mask = snapshot.first_keys < part.end_key
    mask &= (snapshot.arrivals >= part.arrival.start) & (snapshot.arrivals < part.arrival.end)
    mask &= (snapshot.max_timestamps >= part.span.start) & (snapshot.min_timestamps < part.span.end)
    if part.ranges is not None:
        starts, ends = range_arrays(part.ranges)
        first_over = np.searchsorted(ends, snapshot.first_keys, side="right")
        after_last = np.searchsorted(starts, snapshot.end_keys, side="left")
        mask &= first_over < after_last
    return np.flatnonzero(mask).astype(np.int64, copy=False)


def live_rows(view: View, part: Part, segments: Int64Array | None = None) -> Iterator[tuple[int, Rows]]:
    """The live rows of a part, segment by segment in key order; never empty ones."""
    snapshot = view.snapshot
    superseded = snapshot.superseded.at(part.end_key)
    ranges = None if part.ranges is None else range_arrays(part.ranges)
    for index in (segments_of(snapshot, part) if segments is None else segments).tolist():
        rows = _in_ranges(snapshot, index, part.end_key, ranges)
        rows = _in_span(view, index, rows, part.span)
        rows = _without(superseded, int(snapshot.first_keys[index]), rows)
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
    last = min(int(snapshot.end_keys[index]), end_key)
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
    snapshot = view.snapshot
    if snapshot.min_timestamps[index] >= span.start and snapshot.max_timestamps[index] < span.end:
        return rows
    times = view.segment(index).timestamps[rows]
    return as_slice(as_array(rows)[(times >= span.start) & (times < span.end)])


def _without(superseded: Superseded, first_key: int, rows: Rows) -> Rows:
    if count(rows) == 0:
        return rows
    if isinstance(rows, slice):
        low, high = rows.start, rows.stop
    else:
        low, high = int(rows[0]), int(rows[-1]) + 1
    near = superseded.within(first_key + low, first_key + high)
    if near.start == near.stop:
        return rows
    array = as_array(rows)
    return as_slice(array[~superseded.contains(first_key + array)])
