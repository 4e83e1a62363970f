"""Gaussian kernels over many samples without the whole kernel matrix in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modyn.core.plugins.drift import Numbers
from modyn.core.plugins.triggers import Features

TILE = 512
"""Rows of the kernel matrix that are in memory at once."""

MEDIAN_SAMPLES = 512
"""Samples, spread evenly over both windows, whose pairs decide on the width of the kernel."""


def median_distance(pooled: Features) -> float:
    """Median Euclidean distance of the pairs of at most :data:`MEDIAN_SAMPLES` samples; positive.

    Gretton et al., "A kernel two-sample test", JMLR 13, 2012, section 8. If most pairs are equal, the root of the mean
    square takes its place; 1 if all are.

    Args:
        pooled: float32 [n, d].
    """
    if len(pooled) > MEDIAN_SAMPLES:
        pooled = pooled[np.linspace(0, len(pooled) - 1, MEDIAN_SAMPLES).astype(np.int64)]
    pooled = pooled - pooled.mean(axis=0)
    norms = np.einsum("ij,ij->i", pooled, pooled)
    squares = norms[:, None] + norms[None, :] - 2 * (pooled @ pooled.T)
    squares = np.maximum(squares[np.triu_indices(len(pooled), k=1)], 0)
    if len(squares) == 0:
        return 1.0
    median = float(np.median(squares))
    return float(np.sqrt(median if median > 1e-6 * norms.mean() else squares.mean())) or 1.0


WIDE = 200.0
"""Squared distance from the mean, in widths of the kernel, beyond which float32 does not tell near samples apart."""


class Factors(NamedTuple):
    """``exp(left @ right)`` is the kernel matrix exp(-|x_i - x_j|^2 / (2 sigma^2)).

    Attributes:
        left: [n, d + 2], float32, or float64 if samples are far apart.
        right: [d + 2, n].
    """

    left: Features | Numbers
    right: Features | Numbers

    @classmethod
    def gaussian(cls, pooled: Features, sigma: float) -> Factors:
        scaled = (pooled - pooled.mean(axis=0)) / np.float32(sigma)
        if np.einsum("ij,ij->i", scaled, scaled).max() > WIDE:
            scaled = (pooled - pooled.mean(axis=0, dtype=np.float64)) / sigma
        exponents = -0.5 * np.einsum("ij,ij->i", scaled, scaled)[:, None]
        ones = np.ones_like(exponents)
        left = np.concatenate((scaled, exponents, ones), axis=1)
        right = np.concatenate((scaled, ones, exponents), axis=1)
        return cls(left, np.ascontiguousarray(right.T))

    def kernel(self, rows: slice, columns: slice) -> Features | Numbers:
        """A part of the kernel matrix."""
        part: Features | Numbers = self.left[rows] @ self.right[:, columns]
        return np.exp(part, out=part)


class Forms(NamedTuple):
    """Attributes:
    values: ``v' K v`` for every column v, float64 [columns].
    row_sums: of the kernel matrix, float64 [n].
    """

    values: Numbers
    row_sums: Numbers


def quadratic_forms(factors: Factors, vectors: Features) -> Forms:
    """Quadratic forms of a kernel matrix K, which is made tile by tile, the upper triangle only.

    Args:
        vectors: float32 [n, columns].
    """
    return _forms(factors, vectors, None)


def block_quadratic_forms(factors: Factors, vectors: Features, length: int) -> Forms:
    """The same for vectors that are constant over blocks of ``length`` samples.

    Args:
        vectors: float32 [n / length, columns].
    """
    blocks = len(vectors)
    if blocks >= vectors.shape[1]:
        return _forms(factors, np.repeat(vectors, length, axis=0), None)
    return _forms(factors, np.repeat(np.eye(blocks, dtype=np.float32), length, axis=0), vectors)


def _forms(factors: Factors, vectors: Features, combined: Features | None) -> Forms:
    """Quadratic forms of ``vectors``, or of ``vectors @ combined``."""
    size, width = vectors.shape
    row_sums, values, matrix = np.zeros(size), np.zeros(width), np.zeros((width, width))
    for start in range(0, size, TILE):
        rows, rest = slice(start, start + TILE), slice(start + TILE, size)
        left, square = vectors[rows], factors.kernel(rows, rows)
        products = square @ vectors[rows]
        row_sums[rows] += square.sum(axis=1)
        if rest.start < size:
            beside = factors.kernel(rows, rest)
            products += 2 * (beside @ vectors[rest])
            row_sums[rows] += beside.sum(axis=1)
            row_sums[rest] += beside.sum(axis=0)
        if combined is None:
            values += np.einsum("ij,ij->j", left, products, dtype=np.float64)
        else:
            matrix += left.T @ products
    if combined is not None:
        values = np.einsum("ij,ij->j", combined, matrix @ combined, dtype=np.float64)
    return Forms(values, row_sums)
