"""Greedy k-center: samples none of which is far from all chosen ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.features import Float32Array, Rows

POOL = 512
"""Points that are looked at together; with 512 features they fill a core's cache of 1 MiB."""

BLOCK = 1 << 19
"""Distances that are held at once."""

CLOSE = 2.0**-12
"""Below this share of the squared norms, too much of a squared distance is rounding; it is then computed anew."""

ROUNDING = 2.0**-18
"""No squared distance is wrong by more than this share of the squared norms: 32 times the precision of float32."""

PICKED = np.float32(-1)
"""Stands for the distance of a chosen point: below all distances."""


def kcenter_greedy(points: Float32Array, size: int, first: int) -> Int64Array:
    """Farthest-point greedy: always the point that is farthest from its nearest chosen one.

    The largest distance that is left is at most twice the least possible (Gonzalez, "Clustering to minimize the
    maximum intercluster distance", Theoretical Computer Science 1985); as a way to choose training samples: Sener
    and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018.

    Distances only shrink, so as long as the farthest of a small pool of points is at least as far as everything
    outside of it was when the pool was made, it is the farthest of all. The choice is made in the pool, and one matrix
    product for all its choices brings the others up to date: the same sequence, without a pass over all points
    for each choice.

    >>> points = np.array([[0.0], [1.0], [9.0], [4.0], [9.0]], dtype=np.float32)
    >>> kcenter_greedy(points, 4, first=0).tolist()
    [0, 2, 3, 1]

    Args:
        points: float32 [n, d]; finite.
        size: how many, 0 <= size <= n.
        first: position of the first one, 0 <= first < n; with ``size`` 0 it is not looked at.

    Returns:
        Positions in the order in which they are chosen, int64 [size]; none twice. Of equal distances the lower
        position comes first, so duplicates of chosen points come last of all, in ascending order. Distances are
        rounded as float32: between two that differ by less than that, either may come first.
    """
    chosen = np.empty(size, dtype=np.int64)
    if size == 0:
        return chosen
    chosen[0] = first
    cloud = _Cloud(points)
    cloud.update(chosen[:1])
    done = 1
    while done < size:
        if cloud.distances.max() <= 0:
            chosen[done:] = np.flatnonzero(cloud.distances == 0)[: size - done]
            break
        picked = cloud.greedy(size - done)
        chosen[done : done + len(picked)] = picked
        done += len(picked)
        if done < size:
            cloud.update(picked)
    return chosen


@dataclass(frozen=True, eq=False)
class _Points:
    """Points, float32 [m, d], and their squared norms, float32 [m]."""

    vectors: Float32Array
    norms: Float32Array

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: Rows) -> _Points:
        return _Points(self.vectors[rows], self.norms[rows])


class _Cloud:
    """Points and how far they are from the chosen ones.

    Attributes:
        distances: squared, to the nearest chosen one, float32 [n]; :data:`PICKED` for chosen ones.
    """

    def __init__(self, vectors: Float32Array) -> None:
        # Neither a shift nor a power of two changes the order, but both keep squares small and exact.
        exponent = np.frexp(max(vectors.max(initial=0), -vectors.min(initial=0)))[1]
        vectors = np.ldexp(vectors, -exponent).astype(np.float32, copy=False)
        vectors -= vectors.mean(axis=0)
        self._points = _Points(vectors, np.einsum("nd,nd->n", vectors, vectors))
        self.distances = np.full(len(vectors), np.inf, dtype=np.float32)

    def update(self, picked: Int64Array) -> None:
        """Takes note of newly chosen points."""
        self.distances[picked] = PICKED
        centers = self._points.take(picked)
        step = max(1, BLOCK // len(picked))
        for start in range(0, len(self._points), step):
            rows = slice(start, start + step)
            _shrink(self.distances[rows], self._points.take(rows), centers)

    def greedy(self, most: int) -> Int64Array:
        """The next ones, as far as a pool tells: at least one, at most ``most``; needs a distance above 0."""
        pool = _farthest(self.distances, POOL)
        outside = self.distances.copy()
        outside[pool] = PICKED
        rival = int(outside.argmax())
        bound = outside[rival]
        points, distances = self._points.take(pool), self.distances[pool]
        picked: list[int] = []
        while len(picked) < most:
            best = int(distances.argmax())
            farthest = distances[best]
            if farthest < bound or farthest <= 0 or (farthest == bound and rival < pool[best]):
                break
            picked.append(best)
            distances[best] = PICKED
            _shrink(distances, points, points.take(slice(best, best + 1)))
        return pool[picked]


def _farthest(distances: Float32Array, count: int) -> Int64Array:
    """Positions of the largest ones, of equal ones the first, ascending, int64 [min(n, count)]."""
    if len(distances) <= count:
        return np.arange(len(distances))
    last = np.partition(distances, -count)[-count]
    above = np.flatnonzero(distances > last)
    equal = np.flatnonzero(distances == last)[: count - len(above)]
    return np.sort(np.concatenate((above, equal)))


def _shrink(distances: Float32Array, points: _Points, centers: _Points) -> None:
    """Brings squared distances up to date, in place, with new centers."""
    squared = points.vectors @ centers.vectors.T
    squared *= -2
    squared += centers.norms
    near: Float32Array = squared.min(axis=1) if len(centers) > 1 else squared[:, 0].copy()
    near += points.norms
    near_enough = near <= distances + ROUNDING * points.norms
    doubtful = np.flatnonzero((near <= (4 * CLOSE) * points.norms) & near_enough & (distances > 0))
    if len(doubtful):
        near[doubtful] = _recomputed(squared[doubtful], points.take(doubtful), centers)
    np.maximum(near, 0, out=near)
    np.minimum(distances, near, out=distances)


def _recomputed(squared: Float32Array, points: _Points, centers: _Points) -> Float32Array:
    """Squared distance to the nearest center, float32 [m]; that to close centers from the differences of coordinates.

    Args:
        squared: those distances without the norms of the points, float32 [m, centers]; overwritten.
    """
    squared += points.norms[:, None]
    row, center = np.nonzero(squared < CLOSE * (points.norms[:, None] + centers.norms))
    step = max(1, BLOCK // max(1, points.vectors.shape[1]))
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        differences = points.vectors[row[part]] - centers.vectors[center[part]]
        squared[row[part], center[part]] = np.einsum("nd,nd->n", differences, differences)
    nearest: Float32Array = squared.min(axis=1)
    return nearest
