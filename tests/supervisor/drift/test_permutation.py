"""Blocks of samples, ways to exchange them, and what they make of autocorrelation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.triggers import calibration
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.dependence import FALSE_DETECTION, INDEPENDENT, TARGET_INFLATION, dependence
from modyn.supervisor.drift.permutation import (
    Blocks,
    Splits,
    critical_value,
    cut_windows,
    enough_permutations,
    rank_p_value,
)
from tests.helpers.autocorrelated import autoregressive, seasonal


def halves(stream: Features) -> tuple[Features, Features]:
    return stream[: len(stream) // 2], stream[len(stream) // 2 :]


@given(n=st.integers(1, 500), m=st.integers(1, 500), length=st.integers(1, 100))
def test_blocks_leave_out_less_than_one_each(n: int, m: int, length: int) -> None:
    blocks = Blocks.cut(n, m, length)
    assert length <= blocks.length <= length * 5 // 4
    assert 0 <= n - blocks.reference * blocks.length < blocks.length
    assert 0 <= m - blocks.current * blocks.length < blocks.length
    if length == 1:
        assert (blocks.reference, blocks.current) == (n, m)


@settings(max_examples=30)
@given(reference=st.integers(1, 30), current=st.integers(1, 30), length=st.integers(1, 5))
def test_splits_exchange_whole_blocks_and_keep_the_sizes(reference: int, current: int, length: int) -> None:
    splits = Splits.drawn(Blocks(length, reference, current), 50, np.random.default_rng(0))
    assert splits.current.shape == (reference + current, 51)
    assert (splits.current.sum(axis=0) == current).all()
    assert splits.current[:, 0].tolist() == [False] * reference + [True] * current
    samples = splits.samples.reshape(-1, length, 51)
    assert (samples == samples[:, :1]).all()
    columns = np.random.default_rng(1).normal(size=((reference + current) * length, 3)).astype(np.float32)
    a, b = splits.means(columns)
    assert a[7] == pytest.approx(columns[~splits.samples[:, 7]].mean(axis=0), abs=1e-5)
    assert b[7] == pytest.approx(columns[splits.samples[:, 7]].mean(axis=0), abs=1e-5)


def test_all_splits_are_equally_likely() -> None:
    splits = Splits.drawn(Blocks(1, 2, 2), 6000, np.random.default_rng(0))
    codes = np.array([8, 4, 2, 1]) @ splits.current[:, 1:]
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == math.comb(4, 2)
    assert counts == pytest.approx(1000, rel=0.15)


def test_p_values_count_the_observed_split() -> None:
    assert rank_p_value(np.array([5.0, 1, 2, 3])) == 1 / 4
    assert rank_p_value(np.array([0.0, 1, 2, 3])) == 1
    assert rank_p_value(np.array([2.0, 2, 2, 3])) == 1
    drawn = {rank_p_value(np.array([2.0, 2, 2, 3]), np.random.default_rng(seed)) for seed in range(50)}
    assert drawn == {2 / 4, 3 / 4, 1}
    assert rank_p_value(np.array([2.0, 2, 2]), np.random.default_rng(0)) == 1  # nothing differs at all


@given(st.lists(st.integers(0, 1000), min_size=20, max_size=200, unique=True), st.sampled_from([0.05, 0.1, 0.5]))
def test_the_critical_value_is_where_rejection_begins(numbers: list[int], alpha: float) -> None:
    statistics = np.array(numbers, dtype=np.float64)
    rejects = rank_p_value(statistics) <= alpha
    assert rejects == (statistics[0] > critical_value(statistics, alpha))


def test_permutations_are_as_many_as_the_false_alarm_rate_needs() -> None:
    assert enough_permutations(100, 0.05) == 100
    assert enough_permutations(10, 0.05) == 19
    assert enough_permutations(100, 0.001) == 999


@pytest.mark.parametrize(("alpha", "fewest"), [(0.05, 5), (0.01, 6), (0.5, 3)])
def test_windows_of_few_blocks_are_too_short(alpha: float, fewest: int) -> None:
    assert not Blocks(10, fewest, fewest).too_few(alpha)
    assert Blocks(10, fewest - 1, fewest - 1).too_few(alpha)
    window = np.zeros((10 * fewest - 1, 1), np.float32)
    cut = cut_windows(window, window, alpha, 10)
    assert cut.too_short
    assert f"{fewest - 1} and {fewest - 1} blocks of" in cut.note
    assert f"about {fewest} blocks in each" in cut.note


@pytest.mark.parametrize("features", [1, 8, 64, 512])
def test_independent_samples_are_seen_to_be_independent(features: int) -> None:
    runs = 60
    found = [dependence(*halves(autoregressive(400, features, 0.0, seed))) for seed in range(runs)]
    assert sum(one != INDEPENDENT for one in found) <= runs * FALSE_DETECTION + 3 * math.sqrt(runs * FALSE_DETECTION)


@pytest.mark.parametrize(("phi", "samples"), [(0.5, 4000), (0.9, 8000)])
@pytest.mark.parametrize("features", [1, 8])
def test_blocks_follow_the_autocorrelation(phi: float, samples: int, features: int) -> None:
    found = [dependence(*halves(autoregressive(2 * samples, features, phi, seed))) for seed in range(10)]
    reach = 2 * phi / (1 - phi**2)
    assert np.median([one.reach for one in found]) == pytest.approx(reach, rel=0.35)
    assert np.median([one.time for one in found]) == pytest.approx((1 + phi) / (1 - phi), rel=0.3)
    assert np.median([one.block_length for one in found]) == pytest.approx(TARGET_INFLATION * reach, rel=0.35)
    assert found[0].inflation(found[0].block_length) == pytest.approx(1 / (1 - 1 / TARGET_INFLATION), rel=0.02)


def test_one_dependent_feature_among_many_decides() -> None:
    stream = autoregressive(4000, 100, 0.0, seed=1)
    stream[:, 63] = autoregressive(4000, 1, 0.9, seed=2)[:, 0]
    assert dependence(*halves(stream)).block_length > 60


def test_changing_variance_is_dependence_too() -> None:
    scale = np.exp(autoregressive(4000, 1, 0.95, seed=0))
    stream = autoregressive(4000, 1, 0.0, seed=1) * scale
    assert dependence(*halves(stream)).block_length > 20


def test_dependence_beneath_a_season_is_seen() -> None:
    slow = [dependence(*halves(seasonal(autoregressive(4000, 1, 0.9, seed)))).reach for seed in range(10)]
    assert np.median(slow) == pytest.approx(2 * 0.9 / (1 - 0.81), rel=0.4)
    quick = dependence(*halves(seasonal(autoregressive(4000, 1, 0.0, seed=0))))
    assert quick.reach < 2
    assert 30 <= quick.block_length <= 60


def test_a_jump_between_windows_is_no_dependence_within_them() -> None:
    reference, current = halves(autoregressive(1000, 4, 0.0, seed=0))
    assert dependence(reference, current + 10) == dependence(reference, current) == INDEPENDENT


def test_a_jump_within_a_window_does_not_hide_itself() -> None:
    reference, current = halves(autoregressive(1000, 4, 0.0, seed=0))
    current[250:] += 2
    assert dependence(current, current).block_length > 500 / 6
    assert dependence(reference, current) == INDEPENDENT
    assert dependence(current, reference) == INDEPENDENT
    metric = calibration.metric("MMD")
    result = metric.test(
        reference, current, alpha=0.05, permutations=100, block_length=None, rng=np.random.default_rng(0)
    )
    assert result.rejects


@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_drift_in_small_steps_does_not_hide_itself(slope: float) -> None:
    stream = autoregressive(1000, 4, 0.0, seed=0)
    stream += np.linspace(0, slope, 1000, dtype=np.float32)[:, None]
    assert dependence(*halves(stream)) == INDEPENDENT


@pytest.mark.parametrize("sizes", [(1, 1), (7, 7), (8, 1), (1, 500), (9, 2000)])
def test_short_windows_say_nothing(sizes: tuple[int, int]) -> None:
    stream = autoregressive(sum(sizes), 2, 0.0, seed=sizes[1])
    assert dependence(stream[: sizes[0]], stream[sizes[0] :]) == INDEPENDENT
    constant = np.ones((sum(sizes), 2), np.float32)
    assert dependence(constant[: sizes[0]], constant[sizes[0] :]) == INDEPENDENT
