"""A Cholesky factor that follows a set of vectors as they come and go."""

from __future__ import annotations

import numpy as np

from modyn.trainer_server.greedy.features import Float64Array

DEPENDENT = 1e-12
"""A vector of which less than this share (of its squared norm) is new is taken to depend on the others."""


class GrowingCholesky:
    """The lower triangular factor of the Gram matrix of p vectors.

    Adding one costs p² operations, solving as many, removing one at most p³/3.
    """

    def __init__(self) -> None:
        self._buffer = np.zeros((16, 16))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def factor(self) -> Float64Array:
        """float64 [p, p]."""
        return self._buffer[: self._size, : self._size]

    def append(self, products: Float64Array, squared_norm: float) -> bool:
        """Adds a vector, unless it depends on the others as far as rounding tells.

        Args:
            products: its inner products with the others, float64 [p].
            squared_norm: its inner product with itself.

        Returns:
            whether it was added.
        """
        p = self._size
        row = _solve(self.factor, products)
        left = squared_norm - float(row @ row)
        if left <= DEPENDENT * squared_norm:
            return False
        if p == len(self._buffer):
            grown = np.zeros((2 * p, 2 * p))
            grown[:p, :p] = self._buffer
            self._buffer = grown
        self._buffer[p, :p] = row
        self._buffer[p, p] = np.sqrt(left)
        self._size += 1
        return True

    def remove(self, index: int) -> None:
        """Takes one out; those after it move up."""
        p = self._size
        below = self._buffer[index + 1 : p, :index].copy()
        column = self._buffer[index + 1 : p, index]
        corner = self._buffer[index + 1 : p, index + 1 : p]
        updated = np.linalg.cholesky(corner @ corner.T + np.outer(column, column))
        self._buffer[index : p - 1, :index] = below
        self._buffer[index : p - 1, index : p - 1] = updated
        self._size -= 1

    def solve(self, values: Float64Array) -> Float64Array:
        """The x for which the Gram matrix times x are these values, float64 [p]."""
        return _solve(self.factor, _solve(self.factor, values), transposed=True)


def _solve(factor: Float64Array, values: Float64Array, *, transposed: bool = False) -> Float64Array:
    if not len(values):
        return values
    from scipy.linalg import solve_triangular  # here, as it takes longer to import than most jobs need it

    solution: Float64Array = solve_triangular(
        factor, values, lower=True, trans="T" if transposed else "N", check_finite=False
    )
    return solution
