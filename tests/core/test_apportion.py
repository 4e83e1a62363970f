from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.apportion import equal_budgets, proportional_budgets, weighted_budgets
from modyn.core.arrow import Int64Array


def hamilton(shares: list[Fraction], total: int) -> list[int]:
    """Oracle: what is whole of each share, then one each by the largest remainders, earlier ones first."""
    budgets = [share.numerator // share.denominator for share in shares]
    order = sorted(range(len(shares)), key=lambda g: budgets[g] - shares[g])
    for g in order[: total - sum(budgets)]:
        budgets[g] += 1
    return budgets


groups = st.lists(st.integers(0, 40), min_size=1, max_size=8)


@given(groups, st.data())
def test_proportional_is_the_largest_remainder_method(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    size = max(sum(counts), 1)
    expected = hamilton([Fraction(count * total, size) for count in counts], total)
    got = proportional_budgets(np.array(counts), total)
    assert got.dtype == np.int64
    assert got.tolist() == expected
    assert (got <= counts).all()


@given(groups, st.data())
def test_equal_hands_out_one_by_one(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    expected = [0] * len(counts)
    left = total
    while left:
        for g, count in enumerate(counts):
            if left and expected[g] < count:
                expected[g] += 1
                left -= 1
    assert equal_budgets(np.array(counts), total).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=8), st.data())
def test_weighted_shares_what_full_groups_leave(drawn: list[tuple[int, int]], data: st.DataObject) -> None:
    counts, weights = [c for c, _ in drawn], [w for _, w in drawn]
    total = data.draw(st.integers(0, sum(c for c, w in drawn if w)))
    got = weighted_budgets(np.array(counts), np.array(weights, dtype=np.float64), total)
    assert int(got.sum()) == total
    assert ((got >= 0) & (got <= counts)).all()
    left = [g for g, (c, w) in enumerate(drawn) if c and w]
    rest = total
    while True:
        shares = {g: Fraction(rest * weights[g], sum(weights[k] for k in left)) for g in left}
        full = [g for g in left if shares[g] >= counts[g]]
        if not full or not rest:
            break
        rest -= sum(counts[g] for g in full)
        assert all(got[g] == counts[g] for g in full)
        left = [g for g in left if g not in full]
    for g, share in shares.items():
        assert share - 1 < got[g] < share + 1  # within its quota; which of two equal remainders wins is open
    assert all(got[g] == 0 for g, (c, w) in enumerate(drawn) if not (c and w))


def test_a_hundred_small_classes_at_a_tenth_make_a_tenth() -> None:
    budgets = proportional_budgets(np.full(100, 19), 190)
    assert budgets.sum() == 190
    assert set(budgets.tolist()) == {1, 2}
    assert proportional_budgets(np.array([100]), 29).tolist() == [29]


def test_hundreds_of_millions_do_not_overflow() -> None:
    counts = np.array([1_500_000_000, 1_499_999_999, 1])
    assert proportional_budgets(counts, 2_999_999_999).sum() == 2_999_999_999
    assert equal_budgets(counts, 2_000_000_001).tolist() == [1_000_000_000, 1_000_000_000, 1]


def test_ties_are_drawn_where_that_is_asked_for() -> None:
    """No group is preferred for its place among the others."""
    counts, weights = np.full(10, 10), np.ones(10)
    draws: dict[str, Callable[[np.random.Generator], Int64Array]] = {
        "proportional": lambda random: proportional_budgets(counts, 5, random),
        "equal": lambda random: equal_budgets(counts, 5, random),
        "weighted": lambda random: weighted_budgets(counts, weights, 5, random),
    }
    for name, draw in draws.items():
        budgets = np.array([draw(np.random.default_rng(seed)) for seed in range(400)])
        assert (budgets.sum(axis=1) == 5).all(), name
        assert np.abs(budgets.mean(axis=0) - 0.5).max() < 0.12, name
