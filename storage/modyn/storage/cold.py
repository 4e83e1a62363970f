"""Reading from a cold disk: pages that are not in memory are asked for all at once and in the order of the file.

A sample whose page is missing stops its reader for one access to the disk, after which comes the next. Here the pages
of many samples are asked for before the first is touched, in ascending order and neighbours together, so that the disk
answers them side by side. Where everything is in memory this costs a look at a few pages.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.storage.picks import Picks
from modyn.storage.values import Extent, Values

PROBES = 16
"""Samples whose pages are looked at."""

GAP_BYTES = 64 << 10
"""Pages that are this near to each other are read with what is in between."""

WINDOW_BYTES = 64 << 20
"""Samples that are asked for at once; those after them are asked for when they are read."""

Columns = tuple[Sequence[Sequence[Values]], Picks]
"""Columns by part, and what is read of them."""


class ReadAhead:
    """Asks for the pages of samples that are about to be read.

    Args:
        columns: what is read of n samples.
        ends: bytes up to and with each sample, int64 [n].
    """

    def __init__(self, columns: Sequence[Columns], ends: Int64Array) -> None:
        self._columns = columns
        self._ends = ends
        self.is_cold = _SUPPORTED and any(_is_cold(column, picks) for parts, picks in columns for column in parts)
        self._asked = 0
        """Samples asked for so far."""
        if self.is_cold:
            self.before(1)

    def before(self, last: int) -> None:
        """Samples up to ``last`` are read next; they and those of the next window are asked for."""
        while (
            self.is_cold
            and self._asked < len(self._ends)
            and self._bytes(self._asked) < self._bytes(last) + WINDOW_BYTES
        ):
            end = int(np.searchsorted(self._ends, self._bytes(self._asked) + WINDOW_BYTES, side="right"))
            end = max(end, self._asked + 1)
            for parts, picks in self._columns:
                ask(parts, picks.cut(self._asked, end))
            self._asked = end

    def _bytes(self, count: int) -> int:
        return int(self._ends[count - 1]) if count else 0


def ask(columns: Sequence[Sequence[Values]], picks: Picks) -> int:
    """Starts to read the pages of samples; the number of requests made."""
    requests = 0
    for column in columns:
        for part, _, rows in picks.pieces:
            for extent in column[part].extents(rows):
                requests += _ask(extent)
    return requests


def _ask(extent: Extent) -> int:
    starts, ends = _merged(extent)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        _madvise(start, end - start, mmap.MADV_WILLNEED)
    return len(starts)


def _merged(extent: Extent) -> tuple[Int64Array, Int64Array]:
    """Whole pages that cover an extent, ascending; those near to each other are one."""
    addresses, sizes = extent
    order = np.argsort(addresses)
    starts = addresses[order] & -mmap.PAGESIZE
    last = (addresses + sizes)[order]
    ends = np.maximum.accumulate(last + (-last & (mmap.PAGESIZE - 1)))
    first = np.concatenate(([True], starts[1:] - ends[:-1] > GAP_BYTES))
    return starts[first], ends[np.concatenate((first[1:], [True]))]


def _is_cold(column: Sequence[Values], picks: Picks) -> bool:
    """Whether pages of some of the samples are missing."""
    step = max(1, -(-len(picks) // PROBES))
    some = Picks(picks.rows[::step], None if picks.parts is None else picks.parts[::step])
    if picks.parts is None:
        some.part = picks.part
    return any(not _in_memory(extent) for part, _, rows in some.pieces for extent in column[part].extents(rows))


def _in_memory(extent: Extent) -> bool:
    pages = extent[0] & -mmap.PAGESIZE
    state = ctypes.c_ubyte()
    for page in pages.tolist():
        # An error, as for memory that is no file's, says nothing of the disk.
        if _mincore(page, mmap.PAGESIZE, ctypes.byref(state)) == 0 and not state.value & 1:
            return False
    return True


def _function(name: str, argument_types: Iterable[Any]) -> Any:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = list(argument_types)
    function.restype = ctypes.c_int
    return function


_mincore = _function("mincore", (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p))
_madvise = _function("madvise", (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int))
_SUPPORTED = _mincore is not None and _madvise is not None and hasattr(mmap, "MADV_WILLNEED")
