"""Where the rows of an answer stand in the request, if the answer leaves some out, and where keys stand in others."""

from __future__ import annotations

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError

MAX_TABLE_SPAN = 8
"""A look-up table over a key span is used while the span has at most this many keys per stored one."""


def positions_in(requested: Int64Array, returned: Int64Array, start: int) -> slice | Int64Array:
    """Positions of ``returned`` in ``requested``, ascending: a slice where they are one run, else int64 [n].

    Storage answers samples in request order and leaves deleted ones out, so batches may be any subsequence.

    >>> positions_in(np.array([7, 3, 9, 4]), np.array([3, 9]), 1)
    slice(1, 3, None)
    >>> positions_in(np.array([7, 3, 9, 4]), np.array([7, 4]), 0)
    array([0, 3])

    Args:
        requested: keys in request order, int64 [m]; a key may appear several times.
        returned: some of them, in the same order, int64 [n].
        start: the first position they may have.

    Raises:
        CorruptDataError: they are no subsequence of ``requested[start:]``.
    """
    count = len(returned)
    if np.array_equal(requested[start : start + count], returned):
        return slice(start, start + count)
    size = 2 * count
    while True:
        window = requested[start : start + size]
        found = np.flatnonzero(np.isin(window, returned))
        if len(found) >= count or len(window) < size:
            break
        size *= 2
    if np.array_equal(window[found[:count]], returned):
        return found[:count] + start
    return _one_by_one(requested, returned, start)


def _one_by_one(requested: Int64Array, returned: Int64Array, start: int) -> Int64Array:
    """A key that is requested twice was deleted between its two reads: so rare that a loop over one batch will do."""
    positions = np.empty(len(returned), dtype=np.int64)
    for index, key in enumerate(returned.tolist()):
        ahead = np.flatnonzero(requested[start:] == key)
        if not len(ahead):
            raise CorruptDataError(f"storage answered sample {key}, which was not asked for at this place")
        positions[index] = start + ahead[0]
        start = int(positions[index]) + 1
    return positions


def rows_of(keys: Int64Array, wanted: Int64Array) -> Int64Array:
    """For each wanted key, the row of ``keys`` that holds it, or -1; int64.

    Args:
        keys: int64 [n], no key twice.
    """
    if len(wanted) == len(keys) and np.array_equal(wanted, keys):
        return np.arange(len(wanted), dtype=np.int64)
    if not len(wanted) or not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    first, last = int(keys.min()), int(keys.max())
    if last - first < MAX_TABLE_SPAN * len(keys):
        return _rows_by_table(keys, wanted, first, last)
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys[order], wanted), len(order) - 1)
    rows: Int64Array = np.where(keys[order][place] == wanted, order[place], -1)
    return rows


def _rows_by_table(keys: Int64Array, wanted: Int64Array, first: int, last: int) -> Int64Array:
    table = np.full(last - first + 1, -1, dtype=np.int64)
    table[keys - first] = np.arange(len(keys))
    inside = (wanted >= first) & (wanted <= last)
    rows = np.full(len(wanted), -1, dtype=np.int64)
    rows[inside] = table[wanted[inside] - first]
    return rows
