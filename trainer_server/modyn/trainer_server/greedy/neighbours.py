"""Of a similarity only the entries that matter: those above what each sample has, or its nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.features import Float32Array, Float64Array
from modyn.trainer_server.greedy.similarity import Similarity, row_blocks

_BLOCK_ENTRIES = 2**20


class Entries:
    """Some entries of a similarity matrix, to be read by rows and by columns; 16 bytes each.

    Args:
        rows: how many there are in each row, int64 [n].
        columns: of each entry, by rows, int32 [e].
        values: of each entry, by rows, float32 [e].
    """

    def __init__(self, rows: Int64Array, columns: npt.NDArray[np.int32], values: Float32Array) -> None:
        n = len(rows)
        self._starts = np.concatenate(([0], np.cumsum(rows)))
        self._columns = columns
        self._values = values
        from scipy.sparse import csr_array  # here, as it takes longer to import than most jobs need it

        by_column = csr_array((values, columns, self._starts), shape=(n, n)).tocsc()
        self._column_starts = by_column.indptr
        self._column_rows = by_column.indices
        self._column_values = by_column.data

    def __len__(self) -> int:
        return len(self._values)

    def column(self, position: int) -> tuple[Int64Array, Float32Array]:
        """Rows and values of the entries of a column."""
        which = slice(self._column_starts[position], self._column_starts[position + 1])
        return self._column_rows[which].astype(np.int64), self._column_values[which]

    def gains(self, rows: Int64Array, old: Float32Array, new: Float32Array) -> Float64Array:
        """What each column adds in some rows: the sum of its entries beyond ``old``, up to ``new``; float64 [n]."""
        n = len(self._starts) - 1
        sums = np.zeros(n)
        for part in self._parts(rows):
            starts = self._starts[rows[part]]
            lengths = self._starts[rows[part] + 1] - starts
            ends = np.cumsum(lengths)
            which = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])
            floor = np.repeat(old[part], lengths)
            beyond = np.clip(self._values[which], floor, np.repeat(new[part], lengths)) - floor
            sums += np.bincount(self._columns[which], weights=beyond, minlength=n)
        return sums

    def _parts(self, rows: Int64Array) -> Iterator[slice]:
        """Slices of the rows that have about as many entries each."""
        before = np.cumsum(self._starts[rows + 1] - self._starts[rows])
        if not len(rows):
            return
        limits = np.arange(_BLOCK_ENTRIES, int(before[-1]), _BLOCK_ENTRIES)
        cuts = np.unique([0, *np.searchsorted(before, limits), len(rows)])
        yield from map(slice, cuts[:-1], cuts[1:])


def entries_above(similarity: Similarity, floor: Float32Array, limit: int) -> Entries | None:
    """The entries that are above the floor of their row; None if there are more than ``limit``."""
    n = len(similarity)
    lengths = np.zeros(n, dtype=np.int64)
    columns = np.empty(limit, dtype=np.int32)  # memory that is never written takes no room
    values = np.empty(limit, dtype=np.float32)
    found = 0
    for rows in row_blocks(np.arange(n), n):
        block = similarity.rows(rows)
        above = np.flatnonzero(block > floor[rows, None])
        if found + len(above) > limit:
            return None
        lengths[rows] = np.bincount(above // n, minlength=len(rows))
        columns[found : found + len(above)] = above % n
        values[found : found + len(above)] = block.ravel()[above]
        found += len(above)
    return Entries(lengths, columns[:found], values[:found])


def nearest_neighbours(similarity: Similarity, neighbours: int) -> Entries:
    """Of each row the largest entries, its own among them; of equal ones any."""
    n = len(similarity)
    neighbours = min(neighbours, n)
    columns = np.empty((n, neighbours), dtype=np.int32)
    values = np.empty((n, neighbours), dtype=np.float32)
    own = similarity.diagonal().astype(np.float32)
    for rows in row_blocks(np.arange(n), n):
        block = similarity.rows(rows)
        local = np.arange(len(rows))
        block[local, rows] = np.inf
        nearest = _largest(block, neighbours)
        block[local, rows] = own[rows]
        columns[rows] = nearest
        values[rows] = np.take_along_axis(block, nearest, axis=1)
    return Entries(np.full(n, neighbours), columns.ravel(), values.ravel())


def _largest(block: Float32Array, count: int) -> Int64Array:
    """Columns of the largest entries of each row, ascending, [rows, count]."""
    rows, n = block.shape
    least = np.partition(block, n - count, axis=1)[:, n - count, None]
    reached = block >= least
    if np.count_nonzero(reached) == rows * count:  # no ties; values alone are partitioned much faster than positions
        largest: Int64Array = np.flatnonzero(reached).reshape(rows, count) % n
    else:
        largest = np.sort(np.argpartition(block, n - count, axis=1)[:, n - count :], axis=1)
    return largest
