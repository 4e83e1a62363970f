"""Blocks of samples drawn with replacement, and what it takes to make intervals of that."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import Float64Array
from modyn.core.randomness import Purpose, generator
from modyn.evaluator.long_run import student

DRAWS = 999
"""Resamples of the blocks of a window."""


def drawn_bounds(
    blocks: Float64Array, whole: Float64Array, values: Callable[[Float64Array], Float64Array], level: float, seed: int
) -> tuple[Float64Array, Float64Array]:
    """Bounds of a metric from drawing the blocks of windows with replacement.

    Args:
        blocks, values, level, seed: see :func:`modyn.evaluator.uncertainty.statistic_intervals`.
        whole: the metric of each window, float64 [w].

    Returns:
        Lower and upper bounds, float64 [w] each; NaN where the metric is undefined on most of what is drawn.
    """
    from scipy import special  # here, as it takes longer to import than most processes need it

    count = blocks.shape[1]
    drawn = np.sort(values(np.matmul(_weights(count, seed), blocks)), axis=1)  # NaN last
    defined = np.count_nonzero(~np.isnan(drawn), axis=1)
    left_out = values(blocks.sum(axis=1)[:, np.newaxis] - blocks)
    errors = np.nan_to_num(left_out - left_out.mean(axis=1, keepdims=True))
    # In standard deviations of the drawn metric, which is smaller than its error by the factor in the middle.
    distance = student(level, count - 1) * math.sqrt(count / (count - 1)) * np.sqrt(common_to_neighbours(errors))
    # Beyond the outermost draws, distances from the metric grow in proportion.
    outermost = -float(special.ndtri(2 / (DRAWS + 1)))
    stretch = np.maximum(distance / outermost, 1)
    places = special.ndtr(-np.minimum(distance, outermost)) * (defined + 1) - 1
    low = whole + stretch * (_at(drawn, places) - whole)
    high = whole + stretch * (_at(drawn, defined - 1 - places) - whole)
    hidden = defined <= DRAWS // 2
    low[hidden] = high[hidden] = np.nan
    return low, high


def _at(rows: Float64Array, places: Float64Array) -> Float64Array:
    """An element of each row; between two of them, for places that are not whole."""
    places = np.clip(places, 0, rows.shape[1] - 1)
    before = np.floor(places).astype(np.int64)
    after = np.minimum(before + 1, rows.shape[1] - 1)
    every = np.arange(len(rows))
    share = places - before
    found: Float64Array = np.where(
        share > 0, rows[every, before] * (1 - share) + rows[every, after] * share, rows[every, before]
    )
    return found


def common_to_neighbours(errors: Float64Array) -> Float64Array:
    """How much larger the variance is for what blocks share with their neighbours; at least 1.

    Args:
        errors: of the metric without each block, with mean zero, float64 [..., b].
    """
    own = np.sum(errors**2, axis=-1)
    shared = np.sum(errors[..., 1:] * errors[..., :-1], axis=-1)
    # Deviations from a mean of b values correlate by -1 / b on average where the values do not; that makes up for what
    # chance adds by leaving out negative correlations.
    correlation = np.divide(shared, own, out=np.zeros_like(own), where=own > 0)
    grown: Float64Array = 1 + 2 * np.maximum(correlation, 0)
    return grown


@lru_cache(maxsize=16)
def _weights(count: int, seed: int) -> Float64Array:
    """How often each draw takes each block, float64 [DRAWS, count]."""
    random = generator(seed, Purpose.UNCERTAINTY, 1)
    weights = random.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)
    weights.flags.writeable = False
    return weights


def wilson_bounds(share: Float64Array, samples: Int64Array, level: float) -> tuple[Float64Array, Float64Array]:
    """Bounds of shares of independent samples (Wilson 1927), float64 [w] each.

    Args:
        share: of each window, float64 [w].
        samples: of each window, int64 [w].
        level: of confidence.
    """
    from scipy import special  # here, as it takes longer to import than most processes need it

    square = float(special.ndtri((1 + level) / 2)) ** 2
    centre = (share + square / (2 * samples)) / (1 + square / samples)
    reach = np.sqrt(square * (share * (1 - share) / samples + square / (4 * samples**2))) / (1 + square / samples)
    return np.maximum(centre - reach, 0), np.minimum(centre + reach, 1)
