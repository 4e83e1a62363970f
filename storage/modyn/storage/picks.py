"""Which rows of which parts make up a result."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from modyn.core.arrow import Int64Array


class Picks:
    """Which rows of which parts make up a result: row ``rows[i]`` of part ``parts[i]``, in this order.

    Args:
        rows: int64 [n]; not checked against the parts' lengths.
        parts: int64 [n]; None if all are of part 0.
    """

    def __init__(self, rows: Int64Array, parts: Int64Array | None = None) -> None:
        if parts is not None and len(parts) and parts[0] == parts[-1] and bool((parts == parts[0]).all()):
            self.part, parts = int(parts[0]), None
        else:
            self.part = 0 if parts is None or len(parts) == 0 else int(parts[0])
        self.rows = rows
        self.parts = parts
        """None if all rows are of :attr:`part`, which else is one of the parts."""

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, first: int, last: int) -> Picks:
        """Some of the result's rows."""
        found = Picks(self.rows[first:last], None if self.parts is None else self.parts[first:last])
        if self.parts is None:
            found.part = self.part
        return found

    @cached_property
    def run(self) -> slice | None:
        """The rows, if they are consecutive ones of one part."""
        found = as_slice(self.rows) if self.parts is None else None
        return found if isinstance(found, slice) else None

    @cached_property
    def used(self) -> list[int]:
        """The parts that rows are picked from, ascending."""
        if self.parts is None:
            return [self.part]
        used: list[int] = self._used.tolist()
        return used

    @cached_property
    def used_index(self) -> Int64Array:
        """Place of each row's part in :attr:`used`."""
        assert self.parts is not None  # asked only where there are several
        index = np.zeros(int(self._used[-1]) + 1, dtype=np.int64)
        index[self._used] = np.arange(len(self._used))
        return index[self.parts]

    @cached_property
    def _used(self) -> Int64Array:
        assert self.parts is not None
        return np.flatnonzero(np.bincount(self.parts)).astype(np.int64, copy=False)

    @cached_property
    def order(self) -> Int64Array | None:
        """Places in the result, part by part; None where they are in this order."""
        if self.parts is None or bool((np.diff(self.parts) >= 0).all()):
            return None
        # Few bits are sorted in linear time.
        few = self.parts.astype(np.uint16) if int(self.parts.max()) < 2**16 else self.parts
        return np.argsort(few, kind="stable")

    @cached_property
    def inverse(self) -> Int64Array:
        """Where in the order part by part each row of the result is."""
        assert self.order is not None  # asked only where it is
        places = np.empty(len(self), dtype=np.int64)
        places[self.order] = np.arange(len(self))
        return places

    @cached_property
    def pieces(self) -> list[tuple[int, slice, Int64Array]]:
        """Part by part: its number, the places in this order, and its rows."""
        if len(self) == 0:
            return []
        if self.parts is None:
            return [(self.part, slice(0, len(self)), self.rows)]
        parts, rows = self.parts, self.rows
        if self.order is not None:
            parts, rows = parts[self.order], rows[self.order]
        starts = np.flatnonzero(np.concatenate(([True], np.diff(parts) != 0)))
        ends = np.append(starts[1:], len(parts)).tolist()
        return [
            (part, slice(start, end), rows[start:end])
            for part, start, end in zip(parts[starts].tolist(), starts.tolist(), ends, strict=True)
        ]


def as_slice(rows: Int64Array) -> Int64Array | slice:
    """The rows as a slice if they are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (len(rows) == 1 or bool((np.diff(rows) == 1).all())):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def rows_of_ranges(starts: Int64Array, ends: Int64Array) -> Int64Array:
    """All integers of ``[starts[i], ends[i])``, one range after the other."""
    lengths = ends - starts
    shifts = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    rows: Int64Array = np.arange(int(lengths.sum()), dtype=np.int64) + shifts
    return rows
