from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.randomness import Purpose, generator
from modyn.trainer_server import permutations
from modyn.trainer_server.permutations import DRAWN_WHOLE, Permutation

LARGE = DRAWN_WHOLE + 4_463
"""Not drawn whole; prime, so nothing comes out even."""

IMPROBABLE = 1e-4
"""Significance: all seeds are fixed, so a test that passes always passes."""


def order(size: int, seed: int = 0, index: int = 0) -> Int64Array:
    return Permutation(size, seed, Purpose.SHUFFLE, index).at(np.arange(size))


@pytest.fixture
def never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutations, "DRAWN_WHOLE", -1)


@pytest.mark.usefixtures("never_whole")
def test_every_place_once_at_any_size() -> None:
    for size in [*range(70), 99, 100, 101, 1_023, 1_024, 1_025, 4_999]:
        assert np.array_equal(np.sort(order(size, seed=size)), np.arange(size))


@given(st.integers(0, 2**40), st.integers(0, 2**62 - 1), st.integers(1, 50))
def test_any_part_of_any_size(start: int, size: int, count: int) -> None:
    """In place and distinct, however large the whole is, and alone as together."""
    whole = Permutation(size, 3, Purpose.SHUFFLE)
    turns = (start + np.arange(count)) % max(size, 1)
    turns = np.unique(turns)[: size or 0]
    found = whole.at(turns)
    assert ((found >= 0) & (found < size)).all()
    assert len(np.unique(found)) == len(turns)
    assert found.tolist() == [int(whole.at(turns[i : i + 1])[0]) for i in range(len(turns))]


def test_small_orders_are_those_of_the_generator() -> None:
    for size in (0, 1, 5, DRAWN_WHOLE):
        expected = generator(7, Purpose.SHUFFLE, 9).permutation(size)
        assert np.array_equal(order(size, 7, 9), expected)


def test_too_many_samples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"2\*\*62"):
        Permutation(2**62 + 1, 0, Purpose.SHUFFLE)


def test_seed_and_index_give_other_orders() -> None:
    orders = [order(LARGE, seed, index) for seed, index in itertools.product((0, 1), (0, 1, 2**20))]
    assert np.array_equal(orders[0], order(LARGE))
    for one, other in itertools.combinations(orders, 2):
        assert (one == other).sum() < 12  # one on average
        assert abs(np.corrcoef(one, other)[0, 1]) * math.sqrt(LARGE) < 4


def test_places_and_values_are_independent() -> None:
    """Chi-square of where each fiftieth of the samples comes, over ten orders."""
    blocks, orders = 50, 10
    places = np.arange(LARGE) * blocks // LARGE
    counts = np.zeros((blocks, blocks))
    for index in range(orders):
        values = order(LARGE, index=index) * blocks // LARGE
        counts += np.bincount(places * blocks + values, minlength=blocks**2).reshape(blocks, blocks)
    assert stats.chi2_contingency(counts).pvalue > IMPROBABLE


def test_neighbours_are_independent() -> None:
    """Differences of samples that follow each other, at several distances, are spread evenly, none too often."""
    root = math.isqrt(LARGE)
    whole = order(LARGE, seed=5)
    for distance in (1, 2, root - 1, root, root + 1, root + 2):
        differences = (whole[distance:] - whole[:-distance]) % LARGE
        counts = np.bincount(differences * 500 // LARGE, minlength=500)
        assert stats.chisquare(counts).pvalue > IMPROBABLE
        assert np.bincount(differences).max() < 10  # Poisson with mean 1
        assert abs(np.corrcoef(whole[distance:], whole[:-distance])[0, 1]) * math.sqrt(LARGE) < 4


def test_fixed_points_and_cycles_are_as_many_as_by_chance() -> None:
    fixed = [int((order(LARGE, seed=8, index=index) == np.arange(LARGE)).sum()) for index in range(40)]
    assert 20 <= sum(fixed) <= 62  # Poisson with mean 40: 3.5 standard deviations
