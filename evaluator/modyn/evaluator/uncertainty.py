"""Confidence intervals of scores whose samples and windows follow each other in time.

Neither the samples of a window nor the windows of a run are independent, so what is drawn or left out here is always a
block of neighbours. How often the intervals hold the truth is measured in ``benchmarks/RESULTS.md``, *Coverage of
confidence intervals*. Nothing here knows of services; these are functions of arrays, and the same for the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array
from modyn.core.randomness import Purpose, generator
from modyn.core.report import IntervalPart
from modyn.evaluator.block_draws import DRAWS, common_to_neighbours, drawn_bounds, wilson_bounds
from modyn.evaluator.long_run import reach_of_mean, student

MIN_WINDOWS = 12
"""Fewer values in time order do not say how they depend on each other. From 30 on, intervals hold what they promise;
below, those of strongly dependent scores are somewhat too narrow."""

BLOCKS = 20
"""Blocks of a window: few enough that neighbours hardly depend on each other, and enough to see how they differ."""

MIN_BLOCKS = 10
"""Fewer do not say how much blocks differ."""

RARE = 5
"""If fewer samples than this are right, or wrong, the blocks of a window may show too few of them."""

_CHUNK = 1 << 21  # numbers held at once, 16 MiB


@dataclass(frozen=True)
class Interval:
    """A confidence interval: of many such intervals, the share ``level`` holds what was estimated."""

    low: float
    high: float
    level: float


def interval_part(interval: Interval | None) -> IntervalPart | None:
    """As it stands in reports and comparisons."""
    return None if interval is None else IntervalPart(low=interval.low, high=interval.high, level=interval.level)


# ----------------------------------------------------------------------------------------------- windows in time order


def mean_interval(
    values: Float64Array, *, level: float, seed: int = 0, bounds: tuple[float, float] | None = None
) -> Interval | None:
    """The mean of scores that may depend on those before them, such as those of successive windows.

    See :mod:`modyn.evaluator.long_run` for the method. What is estimated is the mean that a much longer run of the same
    kind would have; a score that drifts away for good has none.

    Args:
        values: in time order, finite, float64 [n].
        level: of confidence, between 0.5 and 1.
        seed: of what is drawn, 0 <= seed < 2**63.
        bounds: smallest and largest possible value; the interval is cut there, which costs no coverage.

    Returns:
        None if there are fewer than :data:`MIN_WINDOWS` values, or all are the same: then nothing says how uncertain
        they are.

    Raises:
        InvalidInputError: a value is not finite, or the level out of range.
    """
    _check_level(level)
    values = _finite(values)
    if len(values) < MIN_WINDOWS or np.ptp(values) == 0:
        return None
    reach = reach_of_mean(values, level, generator(seed, Purpose.UNCERTAINTY, 0))
    found = _around(float(values.mean()), reach, level)
    if bounds is None:
        return found
    return Interval(max(found.low, bounds[0]), min(found.high, bounds[1]), level)


def paired_interval(a: Float64Array, b: Float64Array, *, level: float, seed: int = 0) -> Interval | None:
    """The mean of a - b: what two runs differ by on the same windows, whose difficulty they share.

    Args:
        a, b: scores of two runs on the same windows in time order, float64 [n] each.
        level, seed: see :func:`mean_interval`.

    Returns:
        None as for :func:`mean_interval`; but [0, 0] for runs that agree on every window, if those are enough.

    Raises:
        InvalidInputError: as for :func:`mean_interval`, or there are not as many of one as of the other.
    """
    if len(a) != len(b):
        raise InvalidInputError(
            f"paired scores: {len(a)} of one run and {len(b)} of the other; expected those of the same windows; leave "
            "out the windows that only one of them has"
        )
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(difference) >= MIN_WINDOWS and not difference.any():
        _check_level(level)
        return Interval(0.0, 0.0, level)
    # What is drawn is not symmetric: without one sign, b - a would get an interval of another length than a - b.
    if difference.size and difference[np.abs(difference).argmax()] < 0:
        found = mean_interval(-difference, level=level, seed=seed)
        return None if found is None else Interval(-found.high, -found.low, level)
    return mean_interval(difference, level=level, seed=seed)


def repetition_interval(values: Float64Array, *, level: float) -> Interval | None:
    """The mean over repetitions that only differ in their seed, and so are independent: Student's t.

    Args:
        values: one of each repetition, finite, float64 [n].
        level: of confidence, between 0.5 and 1.

    Returns:
        None for fewer than two repetitions.

    Raises:
        InvalidInputError: a value is not finite, or the level out of range.
    """
    _check_level(level)
    values = _finite(values)
    if len(values) < 2:
        return None
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _around(float(values.mean()), error * student(level, len(values) - 1), level)


# -------------------------------------------------------------------------------------------- the samples of a window


def block_edges(n: int) -> Int64Array:
    """Where the blocks of a window begin and end.

    >>> block_edges(8).tolist(), len(block_edges(10_000)) - 1
    ([0, 2, 4, 6, 8], 20)

    Args:
        n: samples of the window, in time order; at least one.

    Returns:
        int64 [b + 1], from 0 to n: :data:`BLOCKS` blocks whose lengths differ by one at most, fewer where they would
        have fewer than two samples each.
    """
    count = max(min(BLOCKS, n // 2), 1)
    return np.arange(count + 1, dtype=np.int64) * n // count


def statistic_interval(
    blocks: Float64Array,
    values: Callable[[Float64Array], Float64Array],
    *,
    level: float,
    seed: int = 0,
    samples: int | None = None,
) -> Interval | None:
    """A metric of one window; see :func:`statistic_intervals`, with statistics of its blocks, float64 [b, k]."""
    counts = None if samples is None else np.array([samples], dtype=np.int64)
    low, high = statistic_intervals(blocks[np.newaxis], values, level=level, seed=seed, samples=counts)
    return None if np.isnan(low[0]) else Interval(float(low[0]), float(high[0]), level)


def statistic_intervals(
    blocks: Float64Array,
    values: Callable[[Float64Array], Float64Array],
    *,
    level: float,
    seed: int = 0,
    samples: Int64Array | None = None,
) -> tuple[Float64Array, Float64Array]:
    """A metric of several windows, from sums over their blocks.

    Blocks are drawn with replacement, and the interval lies between two quantiles of the metric of what was drawn
    (Künsch, "The jackknife and the bootstrap for general stationary observations", 1989; blocks do not overlap, as in
    Carlstein 1986). The quantiles lie further out than the level says: by Student's t, since the blocks are few
    (Hesterberg, "What teachers should know about the bootstrap", 2015, section 5.3), and by what neighbouring blocks
    still have in common.

    A share of few samples, or one that almost all or almost none count for, gets the interval of Wilson ("Probable
    inference", 1927) as well, and the wider one of both: blocks that are all right do not say that nothing will ever be
    wrong. It takes the samples as independent.

    Args:
        blocks: statistics of the b blocks of each of w windows in time order, float64 [w, b, k].
        values: the metric of statistics [..., k]: float64 [...], NaN where undefined.
        level: of confidence, between 0.5 and 1.
        seed: of what is drawn, 0 <= seed < 2**63.
        samples: of each window, int64 [w], if the metric is between 0 and 1 and as certain as a share of the samples:
            accuracy, or the mean of anything between 0 and 1.

    Returns:
        Lower and upper bounds, float64 [w] each. NaN where the metric is undefined on the window or on most of what is
        drawn, and where blocks are fewer than :data:`MIN_BLOCKS` or do not differ and the metric is no share.

    Raises:
        InvalidInputError: the level is out of range.
    """
    _check_level(level)
    whole = values(blocks.sum(axis=1))
    low, high = np.full(len(blocks), np.nan), np.full(len(blocks), np.nan)
    count, width = blocks.shape[1:]
    if count >= MIN_BLOCKS:
        step = max(_CHUNK // (DRAWS * width), 1)
        for start in range(0, len(blocks), step):
            own = slice(start, start + step)
            low[own], high[own] = drawn_bounds(blocks[own], whole[own], values, level, seed)
        same = ~(low < high)
        low[same] = high[same] = np.nan
    if samples is not None:
        rare = (np.minimum(whole, 1 - whole) * samples < RARE) | np.isnan(low)
        least, most = wilson_bounds(whole[rare], samples[rare], level)
        low[rare], high[rare] = np.fmin(low[rare], least), np.fmax(high[rare], most)
    return low, high


def holistic_interval(
    score: Callable[[Int64Array], float | None],
    n: int,
    *,
    level: float,
    bounds: tuple[float, float] | None = None,
) -> Interval | None:
    """A metric of one window that needs all its samples at once, such as ROC-AUC.

    Each block is left out once (the jackknife of Künsch 1989, with blocks that do not overlap), which takes
    ``BLOCKS + 1`` evaluations where drawing would take hundreds. For smooth metrics only, not for medians.

    Args:
        score: the metric of some samples, given by their ascending positions, int64 [m]; None where undefined.
        n: samples of the window, in time order.
        level: of confidence, between 0.5 and 1.
        bounds: between which the metric always is. The interval then lies inside, and is longer to the farther bound,
            because the error is taken to be that of the metric's log odds.

    Returns:
        None where the metric is undefined on the window or without one of its blocks, where there are fewer than
        :data:`MIN_BLOCKS` blocks or they do not differ, and where the metric is at a bound.

    Raises:
        InvalidInputError: the level is out of range.
    """
    from scipy import special  # here, as it takes longer to import than most processes need it

    _check_level(level)
    edges = block_edges(n)
    count = len(edges) - 1
    if count < MIN_BLOCKS:
        return None
    positions = np.arange(n, dtype=np.int64)
    without: list[float] = []
    whole = score(positions)
    for start, stop in pairwise(edges.tolist()):
        part = None if whole is None else score(np.concatenate([positions[:start], positions[stop:]]))
        if part is None:
            return None
        without.append(part)
    assert whole is not None  # or a part would have been None
    left_out = np.array(without)
    errors = left_out - left_out.mean()
    variance = (count - 1) / count * float(errors @ errors)
    if not variance > 0:
        return None
    reach = student(level, count - 1) * math.sqrt(variance * float(common_to_neighbours(errors)))
    if bounds is None:
        return _around(whole, reach, level)
    least, most = bounds
    if not least < whole < most:
        return None
    share = (whole - least) / (most - least)
    odds, reach = special.logit(share), reach / (most - least) / (share * (1 - share))
    low, high = special.expit([odds - reach, odds + reach]) * (most - least) + least
    return Interval(float(low), float(high), level)


def _around(centre: float, reach: float, level: float) -> Interval:
    return Interval(centre - reach, centre + reach, level)


def _check_level(level: float) -> None:
    if not 0.5 < level < 1:
        raise InvalidInputError(f"level: value {level}: expected a number between 0.5 and 1, such as 0.95")


def _finite(values: Float64Array) -> Float64Array:
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidInputError("scores: some are not finite; leave out the windows on which the metric is undefined")
    return values
