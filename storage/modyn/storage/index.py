"""The index of a dataset: which segment holds a key, which keys an interval holds, which samples are visible.

A :class:`Snapshot` is an immutable view: readers take the current one and keep it however long they read. It has one
entry per segment, none per sample, and never touches the catalog.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange
from modyn.storage.labels import LabelHistory
from modyn.storage.segments import REMOVED, Segment, SegmentInfo
from modyn.storage.staging import StagedSchema


def _no_entries() -> Int64Array:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class AppendedBatch:
    """What an ``Append`` added: keys ``first_key <= key < end_key``, possibly none."""

    first_key: int
    end_key: int
    arrival: int
    """Unix seconds; never decreases with the key."""


@dataclass(frozen=True, eq=False)
class KeyRuns:
    """A set of keys as disjoint ascending ranges [r]."""

    starts: Int64Array = field(default_factory=_no_entries)
    ends: Int64Array = field(default_factory=_no_entries)

    @staticmethod
    def of_keys(keys: Int64Array) -> KeyRuns:
        """Of keys in any order, duplicates allowed."""
        ordered = np.unique(keys)
        if len(ordered) == 0:
            return KeyRuns()
        breaks = np.flatnonzero(np.diff(ordered) != 1)
        return KeyRuns(
            ordered[np.concatenate(([0], breaks + 1))], ordered[np.concatenate((breaks, [len(ordered) - 1]))] + 1
        )

    @staticmethod
    def union(parts: Sequence[KeyRuns]) -> KeyRuns:
        """Of sets that may overlap."""
        starts = np.concatenate([_no_entries(), *(part.starts for part in parts)])
        ends = np.concatenate([_no_entries(), *(part.ends for part in parts)])
        if len(starts) == 0:
            return KeyRuns()
        order = np.argsort(starts, kind="stable")
        starts, reach = starts[order], np.maximum.accumulate(ends[order])
        first = np.concatenate(([True], starts[1:] > reach[:-1]))
        last = np.concatenate((first[1:], [True]))
        return KeyRuns(starts[first], reach[last])

    def intersection(self, other: KeyRuns) -> KeyRuns:
        """The keys in both sets."""
        if len(self.starts) == 0 or len(other.starts) == 0:
            return KeyRuns()
        first = np.searchsorted(
            other.ends, self.starts, side="right"
        )  # of the other's ranges that overlap each of ours
        counts = np.maximum(np.searchsorted(other.starts, self.ends, side="left") - first, 0)
        mine = np.repeat(np.arange(len(self.starts)), counts)
        theirs = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        return KeyRuns(
            np.maximum(self.starts[mine], other.starts[theirs]), np.minimum(self.ends[mine], other.ends[theirs])
        )

    def __len__(self) -> int:
        return int((self.ends - self.starts).sum())

    def within(self, first_key: int, end_key: int) -> slice:
        """The ranges that overlap these keys."""
        low = int(np.searchsorted(self.ends, first_key, side="right"))
        high = int(np.searchsorted(self.starts, end_key, side="left"))
        return slice(low, max(low, high))

    def clipped(self, first_key: int, end_key: int) -> KeyRuns:
        """What of the set lies among these keys."""
        near = self.within(first_key, end_key)
        return KeyRuns(self.starts[near].clip(first_key, end_key), self.ends[near].clip(first_key, end_key))

    def contains(self, keys: Int64Array) -> npt.NDArray[np.bool_]:
        """Which keys are in the set, bool [n]."""
        if len(self.starts) == 0:
            return np.zeros(len(keys), dtype=bool)
        place = np.searchsorted(self.starts, keys, side="right") - 1
        return (place >= 0) & (keys < self.ends[np.maximum(place, 0)])


@dataclass(frozen=True, eq=False)
class Superseded(KeyRuns):
    """Keys whose file changed later.

    ``known_from[i]`` is the dataset's end key once range ``i`` was superseded: a reader of an earlier snapshot still
    sees those samples as live.
    """

    known_from: Int64Array = field(default_factory=_no_entries)

    def plus(self, starts: Int64Array, ends: Int64Array, known_from: int) -> Superseded:
        order = np.argsort(np.concatenate((self.starts, starts)), kind="stable")
        return Superseded(
            np.concatenate((self.starts, starts))[order],
            np.concatenate((self.ends, ends))[order],
            np.concatenate((self.known_from, np.full(len(starts), known_from, dtype=np.int64)))[order],
        )

    def at(self, end_key: int) -> Superseded:
        """What was superseded when the dataset ended at ``end_key``."""
        known = self.known_from <= end_key
        if bool(known.all()):
            return self
        return Superseded(self.starts[known], self.ends[known], self.known_from[known])


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Facts of segments as columns, [s] each, in key order."""

    infos: tuple[SegmentInfo, ...] = ()
    first_keys: Int64Array = field(default_factory=_no_entries)
    end_keys: Int64Array = field(default_factory=_no_entries)
    min_timestamps: Int64Array = field(default_factory=_no_entries)
    max_timestamps: Int64Array = field(default_factory=_no_entries)
    min_arrivals: Int64Array = field(default_factory=_no_entries)
    max_arrivals: Int64Array = field(default_factory=_no_entries)
    unlabelled: Int64Array = field(default_factory=_no_entries)
    roles: Int64Array = field(default_factory=_no_entries)
    """0 where samples of a segment differ."""
    removed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))
    """Segments of which nothing is left."""

    @staticmethod
    def of(infos: Sequence[SegmentInfo]) -> SegmentTable:
        def column(values: list[int]) -> Int64Array:
            return np.array(values, dtype=np.int64)

        return SegmentTable(
            tuple(infos),
            column([info.first_key for info in infos]),
            column([info.end_key for info in infos]),
            column([info.min_timestamp for info in infos]),
            column([info.max_timestamp for info in infos]),
            column([info.min_arrival for info in infos]),
            column([info.max_arrival for info in infos]),
            column([info.num_unlabelled for info in infos]),
            column([info.role or 0 for info in infos]),
            np.array([info.kind == REMOVED for info in infos], dtype=bool),
        )

    def plus(self, other: SegmentTable) -> SegmentTable:
        columns = (name for name in self.__dataclass_fields__ if name != "infos")
        joined = {name: np.concatenate((getattr(self, name), getattr(other, name))) for name in columns}
        return SegmentTable((*self.infos, *other.infos), **joined)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A dataset at one moment."""

    schema: StagedSchema
    table: SegmentTable = field(default_factory=SegmentTable)
    superseded: Superseded = field(default_factory=Superseded)
    deleted: KeyRuns = field(default_factory=KeyRuns)
    labels: LabelHistory = field(default_factory=LabelHistory)
    version: int = 0
    """The catalog's count of changes."""
    label_version: int = 0
    last_arrival: int | None = None
    num_files: int = 0
    pinned: Mapping[str, Segment] = field(default_factory=dict)
    """Segments that stay open for this snapshot's readers, by name; where another process may delete their files."""

    @property
    def segments(self) -> tuple[SegmentInfo, ...]:
        return self.table.infos

    @property
    def first_keys(self) -> Int64Array:
        return self.table.first_keys

    @property
    def end_key(self) -> int:
        return int(self.table.end_keys[-1]) if len(self.table.end_keys) else 0

    @property
    def label_type(self) -> pa.DataType:
        return self.schema.label or pa.int64()

    @cached_property
    def num_bytes(self) -> int:
        return sum(info.payload_bytes + info.columns_bytes for info in self.segments)

    def plus(self, infos: Sequence[SegmentInfo], **changes: object) -> Snapshot:
        """The dataset with more segments at its end."""
        return replace(self, table=self.table.plus(SegmentTable.of(infos)), **changes)  # type: ignore[arg-type]

    def locate(self, keys: Int64Array) -> Int64Array:
        """The segment of each key, int64 [n]; keys must exist."""
        return np.searchsorted(self.first_keys, keys, side="right").astype(np.int64, copy=False) - 1

    def check_keys(self, dataset: str, keys: Int64Array) -> None:
        """Raises InvalidInputError if a key does not exist, naming it."""
        if len(keys) == 0 or (int(keys.min()) >= 0 and int(keys.max()) < self.end_key):
            return
        wrong = keys[(keys < 0) | (keys >= self.end_key)]
        raise InvalidInputError(_no_such_key(dataset, int(wrong[0]), self.end_key))

    def check_ranges(self, dataset: str, ranges: tuple[KeyRange, ...]) -> None:
        """Raises InvalidInputError if a range ends beyond the dataset, naming the key."""
        if ranges and ranges[-1].end > self.end_key:
            raise InvalidInputError(_no_such_key(dataset, ranges[-1].end - 1, self.end_key))


def _no_such_key(dataset: str, key: int, end_key: int) -> str:
    expected = f"expected 0 <= key < {end_key}" if end_key else "it has no samples yet"
    return f"key {key} does not exist in dataset {dataset!r}, whose end key is {end_key}; {expected}"
