"""What earlier training sets of a pipeline used, as one byte a candidate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeySet
from modyn.selector.sampling import Codes, Mask, pieces

SPARSE = 16
"""A table has at most so many places a candidate; where keys lie further apart, their order is looked up instead."""

Entry = TypeVar("Entry", np.bool_, np.int8)


def used_before(candidates: KeySet, selected: Iterable[KeySet]) -> Mask:
    """Which candidates are in any of some training sets, bool [n].

    >>> used_before(KeySet.from_array([5, 1, 9]), [KeySet.from_array([9, 2]), KeySet.from_array([5])]).tolist()
    [True, False, True]
    """
    table = _Table(candidates)
    used = np.zeros(table.size, dtype=np.bool_)
    for keys in selected:
        for places in table.places(keys):
            used[places] = True
    return table.of(candidates, used)


def cycle_groups(candidates: KeySet, selected: Iterable[KeySet]) -> Codes:
    """Which candidates were never drawn (0), were drawn but not in the present cycle (1), and were drawn in it (2).

    A cycle draws each candidate once. It ends with the training set in which one is drawn again; those that this set
    draws again are the first ones of the next cycle.

    Args:
        selected: earlier training sets, oldest first, each of distinct keys.

    Returns:
        int8 [n].

    >>> candidates = KeySet.from_array([0, 1, 2, 3])
    >>> cycle_groups(candidates, [KeySet.from_array([0, 1]), KeySet.from_array([2, 1])]).tolist()
    [1, 2, 1, 0]
    """
    table = _Table(candidates)
    groups = np.zeros(table.size, dtype=np.int8)
    for keys in selected:
        if any((groups[places] == 2).any() for places in table.places(keys)):
            again = np.minimum(groups, 1)
            for places in table.places(keys):
                again[places] = np.maximum(groups[places], 1)
            groups = again
        else:
            for places in table.places(keys):
                groups[places] = 2
    return table.of(candidates, groups)


class _Table:
    """Gives each of some keys a place: by their distance from the first one, or by their order if they lie far apart.

    Attributes:
        size: how many places there are.
    """

    def __init__(self, keys: KeySet) -> None:
        self._ordered: Int64Array | None = None
        self._first, end = _hull(keys)
        self.size = end - self._first
        if self.size > SPARSE * len(keys):
            self._ordered = np.unique(keys.to_array())
            self.size = len(self._ordered)
            return
        self._taken = np.zeros(self.size, dtype=np.bool_)
        for piece in pieces(keys):
            self._taken[piece.to_array() - self._first] = True

    def places(self, keys: KeySet) -> Iterator[Int64Array]:
        """Places of those keys that have one, piece by piece."""
        for piece in pieces(keys):
            wanted = piece.to_array()
            if self._ordered is not None:
                found = np.minimum(np.searchsorted(self._ordered, wanted), self.size - 1)
                yield found[self._ordered[found] == wanted]
            else:
                found = wanted - self._first
                found = found[(found >= 0) & (found < self.size)]
                yield found[self._taken[found]]

    def of(self, keys: KeySet, table: npt.NDArray[Entry]) -> npt.NDArray[Entry]:
        """The entries of a table for keys that all have a place, [n]."""
        entries = np.empty(len(keys), dtype=table.dtype)
        start = 0
        for places in self.places(keys):
            entries[start : start + len(places)] = table[places]
            start += len(places)
        return entries


def _hull(keys: KeySet) -> tuple[int, int]:
    """The first key, and the end (exclusive) of the last one."""
    if len(keys) == 0:
        return 0, 0
    if keys.ranges is not None:
        return keys.ranges[0].start, keys.ranges[-1].end
    array = keys.to_array()
    return int(array.min()), int(array.max()) + 1
