from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.pps import inclusion_probabilities, systematic_sample, uniform_sample


def capped(scores: list[Fraction], size: int, floor: Fraction) -> list[Fraction]:
    """Oracle: in exact fractions, one item made certain at a time, the highest first."""
    n = len(scores)
    total = sum(scores)
    shares = [(1 - floor) * score / total + floor / n if total else Fraction(1) for score in scores]
    result = [Fraction(0)] * n
    left = sorted(range(n), key=lambda i: -shares[i])
    while left:
        rest = sum(shares[i] for i in left)
        if rest == 0:
            for i in left:
                result[i] = Fraction(size - (n - len(left)), len(left))
            break
        room = size - (n - len(left))
        if room * shares[left[0]] < rest:
            for i in left:
                result[i] = room * shares[i] / rest
            break
        result[left.pop(0)] = Fraction(1)
        if len(left) == n - size:
            break
    return result


values = st.one_of(st.just(0), st.integers(1, 9), st.integers(1, 10**6))


@given(st.data())
def test_probabilities_are_those_of_exact_arithmetic(data: st.DataObject) -> None:
    scores = data.draw(st.lists(values, min_size=1, max_size=12))
    size = data.draw(st.integers(0, len(scores)))
    floor = Fraction(data.draw(st.integers(0, 8)), 8)
    expected = capped([Fraction(s) for s in scores], size, floor) if size else [Fraction(0)] * len(scores)
    got = inclusion_probabilities(np.array(scores, dtype=np.float64), size, floor=float(floor))
    np.testing.assert_allclose(got, [float(p) for p in expected], atol=1e-12)


@given(st.lists(st.floats(0, 1.7e308), min_size=1, max_size=40), st.data())
def test_whatever_the_scores_the_sample_is_exact(scores: list[float], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(scores)))
    floor = data.draw(st.sampled_from([0.0, 1e-3, 0.1]))
    column = np.array(scores)
    before = column.copy()
    probabilities = inclusion_probabilities(column, size, floor=floor)
    assert np.array_equal(column, before)
    assert probabilities.min() >= floor * size / len(scores) * (1 - 1e-12)
    assert probabilities.max() <= 1
    assert abs(probabilities.sum() - size) < 1e-9
    order = np.argsort(column, kind="stable")
    assert (np.diff(probabilities[order]) >= -1e-12).all()
    chosen = systematic_sample(probabilities, np.random.default_rng(len(scores)))
    assert chosen.dtype == np.int64
    assert len(chosen) == size
    assert (np.diff(chosen) > 0).all()
    assert np.isin(np.flatnonzero(probabilities == 1), chosen).all()
    assert (probabilities[chosen] > 0).all()


def test_items_are_chosen_as_often_as_their_probability_says() -> None:
    scores = np.array([0.0, 0.1, 0.2, 0.2, 0.5, 1, 1, 2, 3, 5, 50, 1e6])
    probabilities = inclusion_probabilities(scores, 5, floor=0.05)
    assert (probabilities == 1).sum() >= 1
    random = np.random.default_rng(7)
    draws = 20_000
    counts = np.zeros(len(scores))
    pairs = np.zeros((len(scores), len(scores)))
    for _ in range(draws):
        chosen = systematic_sample(probabilities, random)
        counts[chosen] += 1
        pairs[np.ix_(chosen, chosen)] += 1
    open_ = probabilities < 1
    assert (counts[~open_] == draws).all()
    variance = probabilities[open_] * (1 - probabilities[open_]) / draws
    z = (counts[open_] / draws - probabilities[open_]) / np.sqrt(variance)
    # Not independent, as they add up to a whole number; Σ z² then has mean below or at their number.
    assert np.abs(z).max() < 3.5
    assert (z**2).sum() < 25  # the 99.5 % point of chi-squared with 10 degrees of freedom
    likely = np.flatnonzero(probabilities > 0.05)
    assert (pairs[np.ix_(likely, likely)] > 0).all()  # in random order any two can come together


def test_equal_probabilities_choose_each_pair_equally_often() -> None:
    random = np.random.default_rng(3)
    pairs = np.zeros((6, 6))
    for _ in range(15_000):
        chosen = systematic_sample(np.full(6, 0.5), random)
        pairs[np.ix_(chosen, chosen)] += 1
    rates = pairs[np.triu_indices(6, 1)] / 15_000
    expected = 3 * 2 / (6 * 5)
    assert np.abs(rates - expected).max() < 4 * np.sqrt(expected * (1 - expected) / 15_000)


def test_sums_that_rounding_left_too_small_or_large_give_the_size_all_the_same() -> None:
    for share in (0.5 * (1 - 9e-7), 0.5 * (1 + 9e-7)):
        probabilities = np.full(100_000, share)
        for seed in range(60):
            chosen = systematic_sample(probabilities, np.random.default_rng(seed))
            assert len(chosen) == 50_000
            assert (np.diff(chosen) > 0).all()


def test_the_same_generator_gives_the_same_sample() -> None:
    probabilities = inclusion_probabilities(np.random.default_rng(0).pareto(0.5, 1000), 100)
    one, two, other = (systematic_sample(probabilities, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_scores_over_300_orders_of_magnitude() -> None:
    scores = np.exp(np.linspace(-350, 350, 5000))
    probabilities = inclusion_probabilities(scores, 4000)
    assert abs(probabilities.sum() - 4000) < 1e-9
    assert (probabilities == 1).sum() > 3900


@pytest.mark.slow
def test_more_items_than_float32_or_torch_can_number() -> None:
    count = 2**24 + 1000
    scores = np.ones(count)
    scores[-1000:] = 1e9
    chosen = systematic_sample(inclusion_probabilities(scores, 100_000), np.random.default_rng(0))
    assert len(chosen) == 100_000
    assert np.array_equal(chosen[-1000:], np.arange(count - 1000, count))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, np.nan, np.nan], "loss: .*of 3 there are 2 NaN; the first is nan at position 1"),
        ([1.0, np.inf, -2.0], "loss: .*1 infinite, 1 negative; the first is inf at position 1"),
        ([-np.inf], "1 infinite; the first is -inf at position 0"),
    ],
)
def test_scores_that_cannot_be_used(scores: list[float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        inclusion_probabilities(np.array(scores), 1, what="loss")


def test_sizes_and_probabilities_that_cannot_be() -> None:
    for size in (-1, 3):
        with pytest.raises(InvalidInputError, match=f"size {size}: expected 0 to 2"):
            inclusion_probabilities(np.ones(2), size)
        with pytest.raises(InvalidInputError, match=f"size {size}: expected 0 to 2"):
            uniform_sample(2, size, np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match=r"floor 1.5: expected 0 to 1"):
        inclusion_probabilities(np.ones(2), 1, floor=1.5)
    for probabilities, message in (([0.5, 0.2], "whole number"), ([1.5, 0.5], "at most 1"), ([np.nan, 1], "NaN")):
        with pytest.raises(InvalidInputError, match=message):
            systematic_sample(np.array(probabilities), np.random.default_rng(0))


def test_of_nothing_nothing_is_chosen() -> None:
    empty = inclusion_probabilities(np.empty(0), 0, floor=0.1)
    assert empty.shape == (0,)
    assert systematic_sample(empty, np.random.default_rng(0)).tolist() == []
    assert uniform_sample(0, 0, np.random.default_rng(0)).tolist() == []


def test_uniform_samples() -> None:
    random = np.random.default_rng(5)
    counts = np.zeros(10)
    for _ in range(10_000):
        chosen = uniform_sample(10, 3, random)
        assert chosen.dtype == np.int64
        assert (np.diff(chosen) > 0).all()
        counts[chosen] += 1
    assert ((counts - 3000) ** 2 / (3000 * 0.7)).sum() * 0.9 < 23.6  # chi-squared, 9 degrees of freedom, 99.5 %
