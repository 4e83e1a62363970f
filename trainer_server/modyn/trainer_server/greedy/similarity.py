"""How similar n samples are: a matrix [n, n] that is held, or computed by rows when they are read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.features import Features, Float32Array, Float64Array, Rows

HELD_BYTES = 512 * 2**20
"""Largest matrix that is held, in bytes: 11,585 samples."""

PRODUCTS_ON_THE_FLY = 10**12
"""Most multiplications for which the matrix is computed several times over: 125,000 samples of dimension 64."""

_BLOCK_ENTRIES = 2**21
_ROOT = math.sqrt(0.5)
_ROWS_PER_BLOCK = (64, 256)  # fewer make slow matrix products; more leave the cache, and add rounding to sums


class Form(Enum):
    """How the similarity of n samples is kept; see :func:`choose_form`."""

    HELD = "the whole matrix"
    ON_THE_FLY = "rows, computed whenever they are read"
    NEIGHBOURS = "of each sample those that are most similar to it"


def choose_form(n: int, dimension: int, *, held_bytes: int = HELD_BYTES, products: int = PRODUCTS_ON_THE_FLY) -> Form:
    """The form that facility location reads.

    The matrix is held if its 4 n² bytes fit ``held_bytes``. Otherwise its rows are computed whenever they are read,
    in O(n) bytes; greedy facility location reads each row five to seven times, so that this takes some 6 n² d
    multiplications. If one pass of n² d is more than ``products``, it is computed once, and of each sample only the
    nearest neighbours are kept: the one form that is not exact.

    >>> [choose_form(n, 64).name for n in (10_000, 50_000, 1_000_000)]
    ['HELD', 'ON_THE_FLY', 'NEIGHBOURS']

    Args:
        n: samples.
        dimension: of the vectors that are compared, or how many multiplications an inner product takes.
    """
    if 4 * n * n <= held_bytes:
        return Form.HELD
    return Form.ON_THE_FLY if n * n * dimension <= products else Form.NEIGHBOURS


class Similarity(ABC):
    """Of n samples with each other; symmetric, at least 0."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def multiplications(self) -> int:
        """How many it takes to compute one."""

    @abstractmethod
    def rows(self, rows: Rows) -> Float32Array:
        """Of some samples with all, float32 [rows, n]; a new array, that the caller may overwrite."""

    @abstractmethod
    def diagonal(self) -> Float64Array:
        """Of each sample with itself, float64 [n]."""

    def totals(self) -> Float64Array:
        """Of each sample with all, summed; float64 [n]."""
        sums = np.zeros(len(self))
        for block in row_blocks(np.arange(len(self)), len(self)):
            sums[block] = self.rows(block).sum(axis=1, dtype=np.float64)
        return sums


class HeldSimilarity(Similarity):
    """A matrix, float32 [n, n], symmetric, at least 0."""

    def __init__(self, matrix: Float32Array) -> None:
        self._matrix = matrix

    def __len__(self) -> int:
        return len(self._matrix)

    @property
    def multiplications(self) -> int:
        return 0

    def rows(self, rows: Rows) -> Float32Array:
        if isinstance(rows, slice):
            return self._matrix[rows].copy()
        return self._matrix.take(rows, axis=0)

    def diagonal(self) -> Float64Array:
        return self._matrix.diagonal().astype(np.float64)

    def totals(self) -> Float64Array:
        sums: Float64Array = self._matrix.sum(axis=1, dtype=np.float64)
        return sums


class CosineSimilarity(Similarity):
    """``(1 + cos) / 2`` of two vectors, between 0 and 1.

    The cosine of a vector that is zero with any other, and with itself, counts as 0, their similarity as 1/2.

    >>> from modyn.trainer_server.greedy.features import DenseFeatures
    >>> vectors = np.array([[2, 0], [0, 1], [-1, 0], [0, 0]], dtype=np.float32)
    >>> CosineSimilarity(DenseFeatures(vectors)).rows(slice(0, 1)).round(6).tolist()
    [[1.0, 0.5, 0.0, 0.5]]
    """

    def __init__(self, features: Features) -> None:
        lengths = np.sqrt(features.squared_norms())
        self._zero = lengths == 0
        halves = _ROOT / np.where(self._zero, 1, lengths)
        self._features = features.scaled(np.where(self._zero, 0, halves))

    def __len__(self) -> int:
        return len(self._features)

    @property
    def multiplications(self) -> int:
        return self._features.multiplications

    def rows(self, rows: Rows) -> Float32Array:
        block = self._features.gram(rows, slice(None))
        block += 0.5
        return np.clip(block, 0, 1, out=block)  # rounding

    @property
    def dimension(self) -> int:
        """Of the vectors whose inner products the similarities are: one more than of those compared."""
        return self._features.dimension + 1

    def vector(self, position: int) -> Float64Array:
        """Such a vector, float64 [dimension]."""
        return np.append(self._features.dense(slice(position, position + 1))[0].astype(np.float64), _ROOT)

    def dot(self, vector: Float64Array) -> Float64Array:
        """Inner products of all of them with a vector [dimension], float64 [n]."""
        return self._features.dot(vector[:-1]) + _ROOT * float(vector[-1])

    def diagonal(self) -> Float64Array:
        return np.where(self._zero, 0.5, 1.0)

    def totals(self) -> Float64Array:
        n = len(self)
        sums: Float64Array = n * self._features.dot(self._features.mean()) + n / 2 if n else np.zeros(0)
        return sums


class DistanceSimilarity(Similarity):
    """``bound - distance`` of two vectors: how much nearer they are to each other than the farthest two.

    The distance is Euclidean. The bound is twice the largest distance from the first vector, which by the triangle
    inequality is at least the largest distance of all; how large it is does not change what greedy facility location
    chooses. One millionth of the two squared lengths is taken off a squared distance, so that rounding does not make
    equal vectors differ.

    >>> from modyn.trainer_server.greedy.features import DenseFeatures
    >>> vectors = np.array([[0, 0], [3, 4], [0, 1]], dtype=np.float32)
    >>> DistanceSimilarity(DenseFeatures(vectors)).rows(slice(0, 1)).round(4).tolist()
    [[10.0, 5.0, 9.0]]
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        self._squares = (features.squared_norms() * (1 - 1e-6)).astype(np.float32)
        self.bound = 2 * float(self.distances(slice(0, 1), slice(None)).max()) if len(features) else 0.0

    def __len__(self) -> int:
        return len(self._features)

    @property
    def multiplications(self) -> int:
        return self._features.multiplications

    def distances(self, rows: Rows, columns: Rows) -> Float32Array:
        """Euclidean, float32 [rows, columns]."""
        block = self._features.gram(rows, columns)
        block *= -2
        block += self._squares[columns]
        block += self._squares[rows, None]
        np.maximum(block, 0, out=block)
        return np.sqrt(block, out=block)

    def rows(self, rows: Rows) -> Float32Array:
        block = self.distances(rows, slice(None))
        np.subtract(self.bound, block, out=block)
        return np.maximum(block, 0, out=block)  # rounding

    def diagonal(self) -> Float64Array:
        return np.full(len(self), self.bound)


def held(similarity: Similarity) -> HeldSimilarity:
    """The whole matrix of a similarity."""
    n = len(similarity)
    matrix = np.empty((n, n), dtype=np.float32)
    for block in row_blocks(np.arange(n), n):
        matrix[block] = similarity.rows(block)
    return HeldSimilarity(matrix)


def row_blocks(rows: Int64Array, n: int) -> Iterator[Int64Array]:
    """Rows of length n in blocks that stay in the cache."""
    fewest, most = _ROWS_PER_BLOCK
    height = min(most, max(fewest, _BLOCK_ENTRIES // max(1, n)))
    for start in range(0, len(rows), height):
        yield rows[start : start + height]
