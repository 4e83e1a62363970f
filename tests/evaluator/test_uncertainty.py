from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array
from modyn.evaluator import uncertainty
from modyn.evaluator.long_run import DRAWS, block_length, dependence, reach_of_mean
from modyn.evaluator.uncertainty import (
    BLOCKS,
    MIN_BLOCKS,
    MIN_WINDOWS,
    Interval,
    block_edges,
    holistic_interval,
    mean_interval,
    paired_interval,
    repetition_interval,
    statistic_interval,
    statistic_intervals,
)
from tests.helpers.autocorrelated import autoregressive

RUNS = 300
ERROR = 3 * math.sqrt(0.95 * 0.05 / RUNS)  # of a coverage of .95, three binomial standard deviations: .038


def streams(n: int, phi: float, runs: int = RUNS, seed: int = 0) -> Float64Array:
    """AR(1) streams around 0, float64 [runs, n]."""
    return np.ascontiguousarray(autoregressive(n, runs, phi, [n, seed, round(100 * phi + 100)]).T, dtype=np.float64)


def share(statistics: Float64Array) -> Float64Array:
    with np.errstate(invalid="ignore"):
        found: Float64Array = statistics[..., 0] / statistics[..., 1]
    return found


def blocks_of(right: Float64Array) -> Float64Array:
    """Statistics of accuracy in the blocks of windows, float64 [w, b, 2], from float64 [w, n]."""
    edges = block_edges(right.shape[1])
    sizes = np.broadcast_to(np.diff(edges).astype(np.float64), (len(right), len(edges) - 1))
    return np.stack([np.add.reduceat(right, edges[:-1], axis=1), sizes], axis=-1)


def test_the_documented_examples_hold() -> None:
    assert doctest.testmod(uncertainty).failed == 0


# --------------------------------------------------------------------------------------------------- means over windows


def test_intervals_of_means_hold_what_they_promise_on_ar1_streams() -> None:
    # The whole grid is evaluation.coverage_low and evaluation.coverage_high of the benchmarks.
    coverages = []
    for n in (30, 100):
        for phi in (0.0, 0.6, 0.8):
            intervals = [mean_interval(values, level=0.95, seed=run) for run, values in enumerate(streams(n, phi))]
            coverages.append(sum(found is not None and found.low <= 0 <= found.high for found in intervals) / RUNS)
    assert all(0.95 - ERROR <= coverage <= 0.95 + ERROR for coverage in coverages), coverages
    assert 0.93 <= float(np.mean(coverages)) <= 0.97  # of 1,800 runs: three standard deviations are .016


def test_an_interval_is_the_slow_bootstrap_it_claims_to_be() -> None:
    for n, phi, level in ((12, 0.0, 0.95), (19, 0.8, 0.8), (33, -0.3, 0.95)):
        values = streams(n, phi, runs=1)[0]
        reach = reach_of_mean(values, level, np.random.default_rng(n))
        assert reach == pytest.approx(slow_reach(values, level, np.random.default_rng(n)), rel=1e-9)


def slow_reach(values: Float64Array, level: float, random: np.random.Generator) -> float:
    """Draws every series, step by step."""
    n = len(values)
    centred = values - values.mean()
    phi = dependence(centred)
    left = [centred[t] - phi * centred[t - 1] for t in range(1, n)]
    residuals = np.array(left) - np.mean(left)
    length = block_length(residuals)
    starts = random.integers(0, n - 1, size=(DRAWS, math.ceil((n - 1) / length)))
    firsts = random.standard_normal(DRAWS) * np.std(residuals) / math.sqrt(1 - phi**2)
    ratios = []
    for own_starts, first in zip(starts, firsts, strict=True):
        noise = [residuals[(start + step) % (n - 1)] for start in own_starts for step in range(length)]
        series = [first]
        for t in range(1, n):
            series.append(phi * series[-1] + noise[t - 1])
        ratios.append(abs(np.mean(series)) / slow_error(series))
    return float(sorted(ratios)[round(level * (DRAWS + 1)) - 1]) * slow_error(list(values))


def slow_error(series: list[float]) -> float:
    """The estimated error of the mean, from the slowest cosines."""
    n = len(series)
    count = max(3, round(0.3 * n ** (2 / 3)))
    squares = [
        2 / n * sum(math.cos(math.pi * k * (t + 0.5) / n) * series[t] for t in range(n)) ** 2
        for k in range(1, count + 1)
    ]
    return math.sqrt(sum(squares) / count / n)


def test_blocks_have_the_length_of_politis_and_white() -> None:
    for seed in range(60):
        phi = (0.0, 0.4, 0.7, 0.9)[seed % 4]
        values = streams(30 + 5 * seed, phi, runs=1, seed=seed)[0]
        values -= values.mean()
        assert block_length(values) == slow_block_length(list(values)), seed


def slow_block_length(x: list[float]) -> int:
    n = len(x)
    unseen = max(5, int(math.sqrt(math.log10(n))))
    last = math.ceil(math.sqrt(n)) + unseen
    r = [sum(x[t] * x[t + lag] for t in range(n - lag)) / n for lag in range(last + 1)]
    band = 2 * math.sqrt(math.log10(n) / n)
    large = [lag for lag in range(1, last + 1) if abs(r[lag] / r[0]) >= band]
    found = next(
        (m for m in range(last - unseen + 1) if not any(m < lag <= m + unseen for lag in large)), max(large, default=0)
    )
    width = min(2 * found, last)
    best = 0.0
    if width:
        kernel = [min(1.0, 2 * (1 - abs(lag) / width)) for lag in range(-width, width + 1)]
        g = sum(k * abs(lag) * r[abs(lag)] for k, lag in zip(kernel, range(-width, width + 1), strict=True))
        zero = sum(k * r[abs(lag)] for k, lag in zip(kernel, range(-width, width + 1), strict=True))
        best = (2 * g**2 / (4 / 3 * zero**2)) ** (1 / 3) * math.cbrt(n) if zero > 0 else 0.0
    return round(min(max(best, math.cbrt(n)), 3 * math.sqrt(n), n / 3))


def test_an_interval_moves_and_grows_with_the_scores_and_depends_on_nothing_else() -> None:
    values = streams(50, 0.5, runs=1)[0]
    first = mean_interval(values, level=0.95)
    moved = mean_interval(0.7 + 0.1 * values, level=0.95)
    assert first is not None
    assert moved is not None
    assert (moved.low, moved.high) == pytest.approx((0.7 + 0.1 * first.low, 0.7 + 0.1 * first.high))
    assert mean_interval(values, level=0.95) == first
    assert mean_interval(values, level=0.95, seed=1) != first
    assert first.low < values.mean() < first.high


def test_a_difference_has_one_interval_whichever_run_is_taken_from_the_other() -> None:
    a, b = streams(14, 0.7, runs=2)
    one, other = paired_interval(a, b, level=0.95), paired_interval(b, a, level=0.95)
    assert one is not None
    assert other is not None
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize("n", [MIN_WINDOWS, 60])
def test_surer_intervals_are_longer_at_any_level(n: int) -> None:
    values = streams(n, 0.5, runs=1)[0]
    found = [mean_interval(values, level=level) for level in (0.51, 0.8, 0.95, 0.99, 0.999, 0.99999)]
    widths = [interval.high - interval.low for interval in found if interval is not None]
    assert len(widths) == 6
    assert all(a < b for a, b in pairwise(widths))


def test_neighbours_of_a_long_series_are_averaged() -> None:
    values = streams(2001, 0.3, runs=1)[0]
    random = np.random.default_rng
    assert reach_of_mean(values, 0.95, random(0)) == reach_of_mean(values.reshape(-1, 3).mean(1), 0.95, random(0))


def test_dependent_scores_have_longer_intervals() -> None:
    independent, dependent = (
        np.median(
            [found.high - found.low for found in (mean_interval(x, level=0.95) for x in streams(60, phi, 50)) if found]
        )
        for phi in (0.0, 0.8)
    )
    assert dependent > 2 * independent  # the error of the mean is three times as large


def test_there_is_no_interval_where_nothing_says_how_uncertain_a_mean_is() -> None:
    assert mean_interval(np.arange(MIN_WINDOWS - 1.0), level=0.95) is None
    assert mean_interval(np.empty(0), level=0.95) is None
    assert mean_interval(np.full(50, 0.9), level=0.95) is None
    assert mean_interval(np.tile([0.0, 1.0], 20), level=0.95) is not None
    assert mean_interval(np.linspace(0, 1, 30), level=0.95) is not None
    assert mean_interval(np.eye(1, 40)[0], level=0.95) is not None


def test_values_that_are_no_scores_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not finite"):
        mean_interval(np.full(20, np.nan), level=0.95)
    with pytest.raises(InvalidInputError, match="not finite"):
        repetition_interval(np.array([1.0, np.inf]), level=0.95)
    with pytest.raises(InvalidInputError, match="level: value 95: expected a number between"):
        mean_interval(np.arange(20.0), level=95)
    with pytest.raises(InvalidInputError, match="20 of one run and 19 of the other"):
        paired_interval(np.arange(20.0), np.arange(19.0), level=0.95)


def test_two_runs_are_compared_window_by_window() -> None:
    difficulty = streams(40, 0.8, runs=1)[0]
    own = 0.1 * streams(40, 0.0, runs=2, seed=1)
    a, b = difficulty + own[0] + 0.2, difficulty + own[1]
    paired, alone = paired_interval(a, b, level=0.95), mean_interval(a, level=0.95)
    assert paired is not None
    assert alone is not None
    assert 0 < paired.low < 0.2 < paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 5
    assert paired_interval(a, a, level=0.9) == Interval(0.0, 0.0, 0.9)
    assert paired_interval(a[:5], a[:5], level=0.9) is None


def test_repetitions_are_independent() -> None:
    values = np.array([0.71, 0.74, 0.69, 0.73, 0.72])
    found = repetition_interval(values, level=0.9)
    assert found is not None
    expected = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert repetition_interval(values[:1], level=0.9) is None
    assert repetition_interval(np.array([0.5, 0.5]), level=0.9) == Interval(0.5, 0.5, 0.9)


# ------------------------------------------------------------------------------------------------- samples of a window


@given(st.integers(1, 5000))
def test_blocks_are_alike_and_cover_the_window(n: int) -> None:
    edges = block_edges(n)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == n
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) <= BLOCKS
    assert len(sizes) == 1 or sizes.min() >= 2


@pytest.mark.parametrize(("n", "accuracy", "repeating"), [(100, 0.8, 0.0), (500, 0.9, 0.0), (500, 0.7, 0.6)])
def test_intervals_within_windows_hold_what_they_promise(n: int, accuracy: float, repeating: float) -> None:
    random = np.random.default_rng(n)
    runs = 1000  # three binomial standard deviations are .021
    right = (random.random((n, runs)) < accuracy).astype(np.float64)
    for at in range(1, n):  # a sample is like the last one, or independent of it
        right[at] = np.where(random.random(runs) < repeating, right[at - 1], right[at])
    low, high = statistic_intervals(blocks_of(right.T), share, level=0.95, samples=np.full(runs, n))
    assert 0.93 <= np.mean((low <= accuracy) & (accuracy <= high)) <= 0.971


def test_windows_that_are_all_right_are_not_certain() -> None:
    right = np.ones((1, 60))
    found = statistic_interval(blocks_of(right)[0], share, level=0.95, samples=60)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((60 / (60 + 1.959964**2), 1))  # Wilson's, at 1
    wrong = statistic_interval(blocks_of(1 - right)[0], share, level=0.95, samples=60)
    assert wrong is not None
    assert (wrong.low, wrong.high) == pytest.approx((0, 1 - found.low))
    assert statistic_interval(blocks_of(right)[0], share, level=0.95) is None


def test_small_windows_have_intervals_of_shares_alone() -> None:
    right = np.array([[1.0, 0, 1, 1, 1]])
    assert blocks_of(right).shape[1] < MIN_BLOCKS
    found = statistic_interval(blocks_of(right)[0], share, level=0.95, samples=5)
    expected = stats.binomtest(4, 5).proportion_ci(method="wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert statistic_interval(blocks_of(right)[0], share, level=0.95) is None


def test_windows_together_are_like_windows_alone() -> None:
    random = np.random.default_rng(0)
    blocks = blocks_of((random.random((12, 90)) < 0.8).astype(np.float64))
    blocks[3] = 0  # undefined
    wide = np.concatenate([blocks, np.ones((12, 20, 400))], axis=2)  # several chunks
    low, high = statistic_intervals(wide, share, level=0.9, seed=5)
    for index in range(12):
        found = statistic_interval(blocks[index], share, level=0.9, seed=5)
        if index == 3:
            assert found is None
            assert np.isnan([low[index], high[index]]).all()
        else:
            assert found is not None
            assert (found.low, found.high) == pytest.approx((low[index], high[index]))
            assert found.low < share(blocks[index].sum(axis=0)) < found.high


def test_a_metric_that_most_draws_leave_undefined_has_no_interval() -> None:
    blocks = np.zeros((20, 2))
    blocks[:3] = [[1, 1], [0, 1], [1, 1]]

    def where(defined: Callable[[Float64Array], npt.NDArray[np.bool_]]) -> Interval | None:
        return statistic_interval(blocks, lambda sums: np.where(defined(sums[..., 1]), share(sums), np.nan), level=0.95)

    assert where(lambda count: count >= 3) is not None  # in 58 of 100 draws
    assert where(lambda count: count == 3) is None  # in 23


def test_surer_intervals_within_a_window_are_longer_at_any_level() -> None:
    blocks = blocks_of((np.random.default_rng(1).random((1, 300)) < 0.7).astype(np.float64))[0]
    found = [statistic_interval(blocks, share, level=level) for level in (0.6, 0.9, 0.95, 0.99, 0.999, 0.9999)]
    widths = [interval.high - interval.low for interval in found if interval is not None]
    assert len(widths) == 6
    assert all(a < b for a, b in pairwise(widths))


def test_leaving_out_blocks_is_students_t_of_block_means() -> None:
    # Blocks whose neighbours have opposite errors share nothing, so nothing is added.
    values = np.repeat(np.tile([0.3, 0.5], BLOCKS // 2) + np.linspace(0, 0.01, BLOCKS), 5)
    asked = 0

    def mean(rows: Int64Array) -> float:
        nonlocal asked
        asked += 1
        return float(values[rows].mean())

    found = holistic_interval(mean, len(values), level=0.95)
    assert found is not None
    assert asked == BLOCKS + 1
    of_blocks = repetition_interval(values.reshape(BLOCKS, -1).mean(axis=1), level=0.95)
    assert of_blocks is not None
    assert (found.low, found.high) == pytest.approx((of_blocks.low, of_blocks.high))


def test_intervals_of_holistic_metrics_stay_within_bounds() -> None:
    random = np.random.default_rng(2)
    labels = np.tile([0, 1], 60)
    scores = random.normal(size=120) + 3 * labels

    def auc(rows: Int64Array) -> float | None:
        positive, negative = (scores[rows][labels[rows] == label] for label in (1, 0))
        return float((positive[:, None] > negative).mean()) if len(positive) and len(negative) else None

    found = holistic_interval(auc, 120, level=0.99, bounds=(0, 1))
    whole = auc(np.arange(120))
    assert found is not None
    assert whole is not None
    assert 0 < found.low < whole < found.high < 1
    assert whole - found.low > found.high - whole
    scores += 100 * labels
    assert holistic_interval(auc, 120, level=0.95, bounds=(0, 1)) is None  # 1 without any block
    labels = np.eye(1, 120, dtype=np.int64)[0]
    assert holistic_interval(auc, 120, level=0.95) is None  # undefined without the first block
    assert holistic_interval(auc, 2 * MIN_BLOCKS - 1, level=0.95) is None


def test_intervals_end_where_the_metric_does() -> None:
    scores = np.array([1.0] * 12 + [0.2])
    free = mean_interval(scores, level=0.95)
    cut = mean_interval(scores, level=0.95, bounds=(0, 1))
    assert free is not None
    assert free.high > 1
    assert cut == Interval(max(free.low, 0.0), 1.0, 0.95)
