"""Sets of sample keys: a few ranges where they are contiguous, an int64 column where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import MESSAGE_BYTES, Int64Array, slices
from modyn.core.errors import InvalidInputError
from modyn.proto import common_pb2

KEYS_PER_MESSAGE = MESSAGE_BYTES // 8


@dataclass(frozen=True)
class KeyRange:
    """Keys ``start <= key < end`` of one dataset."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)


@dataclass(frozen=True, eq=False)
class KeySet:
    """Keys of one dataset in a meaningful order.

    Exactly one of the two fields is set: ``ranges`` (ascending, disjoint, non-empty) or ``array`` (int64 [n]).
    """

    ranges: tuple[KeyRange, ...] | None = None
    array: Int64Array | None = None

    @staticmethod
    def from_ranges(ranges: Iterable[KeyRange]) -> KeySet:
        return KeySet(ranges=tuple(r for r in ranges if len(r)))

    @staticmethod
    def from_array(keys: npt.ArrayLike) -> KeySet:
        """Keys in the given order, as ranges if they ascend in few runs."""
        array = np.ascontiguousarray(keys, dtype=np.int64)
        bounds = run_bounds(array)
        # A run costs 16 bytes, a key 8: ranges pay from two keys a run on; demand more to keep loops short.
        if bounds is not None and len(bounds[0]) * 8 <= max(len(array), 8):
            return KeySet(ranges=tuple(map(KeyRange, bounds[0].tolist(), bounds[1].tolist())))
        return KeySet(array=array)

    def __len__(self) -> int:
        if self.ranges is not None:
            return sum(len(r) for r in self.ranges)
        assert self.array is not None  # the other half of the class invariant
        return len(self.array)

    def to_array(self) -> Int64Array:
        """All keys in order, int64 [n]."""
        if self.array is not None:
            return self.array
        parts = [np.arange(r.start, r.end, dtype=np.int64) for r in self.ranges or ()]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def to_proto(self) -> common_pb2.KeySet:
        """One message; for sets that may be large use :meth:`to_protos`."""
        if self.ranges is not None:
            return common_pb2.KeySet(ranges=ranges_to_proto(self.ranges))
        assert self.array is not None
        return common_pb2.KeySet(keys=self.array.astype("<i8", copy=False).tobytes())

    def to_protos(self) -> Iterator[common_pb2.KeySet]:
        """Messages of at most about 1 MiB whose concatenation is this set."""
        if self.ranges is not None:
            for part in slices(len(self.ranges), KEYS_PER_MESSAGE // 4):
                yield KeySet(ranges=self.ranges[part]).to_proto()
        elif self.array is not None:
            for part in slices(len(self.array), KEYS_PER_MESSAGE):
                yield KeySet(array=self.array[part]).to_proto()

    @staticmethod
    def from_proto(message: common_pb2.KeySet) -> KeySet:
        if message.WhichOneof("kind") == "keys":
            if len(message.keys) % 8:
                raise InvalidInputError(f"a key set has {len(message.keys)} bytes; expected a multiple of 8")
            return KeySet(array=np.frombuffer(message.keys, dtype="<i8").astype(np.int64, copy=False))
        return KeySet(ranges=ranges_from_proto(message.ranges))

    @staticmethod
    def concat(parts: Iterable[KeySet]) -> KeySet:
        """All parts one after the other; ranges stay ranges while they ascend, and neighbours merge."""
        parts = list(parts)
        merged: list[KeyRange] = []
        for part in parts:
            if part.ranges is None:
                return KeySet.from_array(np.concatenate([p.to_array() for p in parts]))
            for r in part.ranges:
                if merged and r.start < merged[-1].end:
                    return KeySet.from_array(np.concatenate([p.to_array() for p in parts]))
                if merged and r.start == merged[-1].end:
                    merged[-1] = KeyRange(merged[-1].start, r.end)
                else:
                    merged.append(r)
        return KeySet(ranges=tuple(merged))


def run_bounds(keys: Int64Array) -> tuple[Int64Array, Int64Array] | None:
    """First keys and ends (exclusive) of the maximal runs, int64 [runs] each; None if the keys do not ascend."""
    if len(keys) == 0:
        return keys, keys
    steps = np.diff(keys)
    if (steps <= 0).any():
        return None
    breaks = np.flatnonzero(steps != 1) + 1
    return keys[np.concatenate(([0], breaks))], keys[np.concatenate((breaks - 1, [len(keys) - 1]))] + 1


def mark_members(members: npt.NDArray[np.bool_], wanted: Int64Array, keys: Int64Array) -> None:
    """Sets ``members[i]`` where ``wanted[i]`` is among some keys.

    Args:
        members: bool [n], changed in place.
        wanted: distinct and ascending, int64 [n]; n > 0.
        keys: int64 [m], in any order, repeated ones too.
    """
    here = keys[(keys >= wanted[0]) & (keys <= wanted[-1])]
    place = np.searchsorted(wanted, here)
    members[place[wanted[place] == here]] = True


def ranges_to_proto(ranges: Iterable[KeyRange]) -> common_pb2.KeyRanges:
    """Ranges as a message; whoever receives them checks them with :func:`ranges_from_proto`."""
    return common_pb2.KeyRanges(ranges=[common_pb2.KeyRange(start=r.start, end=r.end) for r in ranges])


def ranges_from_proto(message: common_pb2.KeyRanges) -> tuple[KeyRange, ...]:
    """Checked ranges.

    Raises:
        InvalidInputError: they are not ascending, disjoint and non-empty.
    """
    ranges = tuple(KeyRange(r.start, r.end) for r in message.ranges)
    last = -1
    for r in ranges:
        if r.start < 0 or r.end <= r.start or r.start < last:
            raise InvalidInputError(
                f"key range [{r.start}, {r.end}) is empty, negative or out of order; expected ascending ranges"
            )
        last = r.end
    return ranges
