"""Sums over stretches of samples, and over ranges of such sums."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array, slices
from modyn.core.plugins.evaluation import Float64Array

_CHUNK_SAMPLES = 1 << 17
"""Samples counted at once: what they need meanwhile stays in the processor's cache."""


def count_stretches(
    columns: Int64Array, edges: Int64Array, width: int, *, weights: Float64Array | None = None
) -> Float64Array:
    """How often each number occurs in each stretch, or the sum of the weights of its occurrences.

    >>> count_stretches(np.array([0, 2, 2, 1]), np.array([0, 3, 4]), width=3)
    array([[1., 0., 2.],
           [0., 1., 0.]])

    Args:
        columns: int64 [n], from 0 to ``width - 1``.
        edges: ascending positions, int64 [s + 1]; stretch i is ``edges[i] … edges[i + 1] - 1``.
        weights: float64 [n], or None for 1 each.

    Returns:
        float64 [s, width].
    """
    counts = np.zeros((len(edges) - 1, width))
    for part in slices(len(columns), _CHUNK_SAMPLES):
        first = int(np.searchsorted(edges, part.start, side="right")) - 1
        last = int(np.searchsorted(edges, part.stop, side="left"))
        first, last = max(first, 0), min(last, len(counts))
        if first >= last:
            continue  # outside all stretches
        bounds = np.clip(edges[first : last + 1], part.start, part.stop)
        rows = slice(bounds[0], bounds[-1])
        inside = columns[rows]
        if last - first > 1:
            inside = inside + np.repeat(np.arange(last - first) * width, np.diff(bounds))
        own = None if weights is None else weights[rows]
        found = np.bincount(inside, own, minlength=(last - first) * width)
        counts[first:last] += found.reshape(last - first, width)
    return counts


def sum_stretches(values: npt.NDArray[np.generic], edges: Int64Array) -> Float64Array:
    """The sum of each stretch; zero for an empty one.

    >>> sum_stretches(np.array([True, True, False, True]), np.array([0, 2, 2, 4]))
    array([2., 0., 1.])

    Args:
        values: numbers or booleans, [n].
        edges: ascending positions, int64 [s + 1].

    Returns:
        float64 [s]; exact for booleans and, below 2**53, for whole numbers.
    """
    starts, stops = edges[:-1], edges[1:]
    sums = np.zeros(len(starts))
    filled = np.flatnonzero(stops > starts)
    if not len(filled):
        return sums
    number: npt.DTypeLike = np.float64
    if values.dtype == np.bool_:
        values, number = values.view(np.uint8), np.int64
    # Between two filled stretches there are only empty ones, so each reaches to where the next begins.
    sums[filled] = np.add.reduceat(values[: stops[filled[-1]]], starts[filled], dtype=number)
    return sums


def range_sums(rows: Float64Array, starts: Int64Array, stops: Int64Array) -> Float64Array:
    """The sum of ``rows[start:stop]`` of each range; ranges may overlap.

    Every range is put together from sums of 1, 2, 4 … neighbours, at most two of each, so that it costs
    O(log length) and nothing is subtracted: whole numbers stay exact (below 2**53), and small sums beside large ones
    keep their digits.

    >>> range_sums(np.array([[1.0], [2.0], [4.0], [8.0]]), np.array([0, 1, 2]), np.array([4, 3, 2]))
    array([[15.],
           [ 6.],
           [ 0.]])

    Args:
        rows: float64 [s, k].
        starts: int64 [q].
        stops: int64 [q], none below its start.

    Returns:
        float64 [q, k].
    """
    sums = np.zeros((len(starts), rows.shape[1]))
    open_ones = np.flatnonzero(starts < stops)
    low, high, level = starts[open_ones], stops[open_ones], rows
    while len(open_ones):
        odd = (low & 1) == 1
        sums[open_ones[odd]] += level[low[odd]]
        low = low + odd
        odd = (high & 1) == 1
        high = high - odd
        sums[open_ones[odd]] += level[high[odd]]
        left = low < high
        open_ones, low, high = open_ones[left], low[left] >> 1, high[left] >> 1
        pairs = len(level) // 2
        level = level[0 : 2 * pairs : 2] + level[1 : 2 * pairs : 2]
    return sums


def ratio(above: Float64Array, below: Float64Array) -> Float64Array:
    """``above / below``, float64; NaN where nothing is below."""
    filled = below != 0
    quotient: Float64Array = np.where(filled, above / np.where(filled, below, 1.0), np.nan)
    return quotient
