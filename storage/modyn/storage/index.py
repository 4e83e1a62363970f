"""The index of a dataset: which segment holds a key, which keys an interval holds, which samples are superseded.

A :class:`Snapshot` is an immutable view: readers take the current one and keep it however long they read. It has one
entry per segment and commit, none per sample, and never touches the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange
from modyn.storage.segments import SegmentInfo
from modyn.storage.staging import StagedSchema


def _no_entries() -> Int64Array:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Commit:
    """What became visible at once: keys ``first_key <= key < end_key``, possibly none."""

    first_key: int
    end_key: int
    arrival: int
    """Unix seconds; never decreases from commit to commit."""
    num_new_files: int = 0


@dataclass(frozen=True, eq=False)
class Superseded:
    """Keys whose file changed later, as disjoint ascending ranges [r].

    ``known_from[i]`` is the dataset's end key once range ``i`` was superseded: a reader of an earlier snapshot still
    sees those samples as live.
    """

    starts: Int64Array = field(default_factory=_no_entries)
    ends: Int64Array = field(default_factory=_no_entries)
    known_from: Int64Array = field(default_factory=_no_entries)

    def __len__(self) -> int:
        return int((self.ends - self.starts).sum())

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

    def within(self, first_key: int, end_key: int) -> slice:
        """The ranges that overlap these keys."""
        low = int(np.searchsorted(self.ends, first_key, side="right"))
        high = int(np.searchsorted(self.starts, end_key, side="left"))
        return slice(low, max(low, high))

    def contains(self, keys: Int64Array) -> npt.NDArray[np.bool_]:
        """Which keys are superseded, bool [n]."""
        if len(self.starts) == 0:
            return np.zeros(len(keys), dtype=bool)
        place = np.searchsorted(self.starts, keys, side="right") - 1
        return (place >= 0) & (keys < self.ends[np.maximum(place, 0)])


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A dataset at one moment. Arrays have one entry per segment [s], in key order."""

    schema: StagedSchema
    segments: tuple[SegmentInfo, ...] = ()
    first_keys: Int64Array = field(default_factory=_no_entries)
    end_keys: Int64Array = field(default_factory=_no_entries)
    min_timestamps: Int64Array = field(default_factory=_no_entries)
    max_timestamps: Int64Array = field(default_factory=_no_entries)
    unlabelled: Int64Array = field(default_factory=_no_entries)
    arrivals: Int64Array = field(default_factory=_no_entries)
    superseded: Superseded = field(default_factory=Superseded)
    commits: tuple[Commit, ...] = ()
    num_bytes: int = 0
    num_files: int = 0

    @property
    def end_key(self) -> int:
        return int(self.end_keys[-1]) if len(self.end_keys) else 0

    @property
    def last_arrival(self) -> int | None:
        return self.commits[-1].arrival if self.commits else None

    @property
    def label_type(self) -> pa.DataType:
        return self.schema.label or pa.int64()

    def plus(self, commits: list[tuple[Commit, list[SegmentInfo]]], schema: StagedSchema) -> Snapshot:
        """The dataset after more commits, oldest first."""
        new = [(info, commit.arrival) for commit, infos in commits for info in infos]
        sizes = np.array([info.num_samples for info, _ in new], dtype=np.int64)
        ends = self.end_key + np.cumsum(sizes)

        def column(old: Int64Array, values: list[int]) -> Int64Array:
            return np.concatenate((old, np.array(values, dtype=np.int64)))

        return replace(
            self,
            schema=schema,
            segments=(*self.segments, *(info for info, _ in new)),
            first_keys=np.concatenate((self.first_keys, ends - sizes)),
            end_keys=np.concatenate((self.end_keys, ends)),
            min_timestamps=column(self.min_timestamps, [info.min_timestamp for info, _ in new]),
            max_timestamps=column(self.max_timestamps, [info.max_timestamp for info, _ in new]),
            unlabelled=column(self.unlabelled, [info.num_unlabelled for info, _ in new]),
            arrivals=column(self.arrivals, [arrival for _, arrival in new]),
            commits=(*self.commits, *(commit for commit, _ in commits)),
            num_bytes=self.num_bytes + sum(info.payload_bytes + info.columns_bytes for info, _ in new),
            num_files=self.num_files + sum(commit.num_new_files for commit, _ in commits),
        )

    def superseding(self, starts: Int64Array, ends: Int64Array, known_from: int) -> Snapshot:
        if len(starts) == 0:
            return self
        return replace(self, superseded=self.superseded.plus(starts, ends, known_from))

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
