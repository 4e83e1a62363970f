"""Where the rows of an answer stand in the request, if the answer leaves some out."""

from __future__ import annotations

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError


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
