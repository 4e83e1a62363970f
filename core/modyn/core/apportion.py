"""Whole numbers that add up: how many samples of each group make a total."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array


def proportional_budgets(counts: Int64Array, total: int, random: np.random.Generator | None = None) -> Int64Array:
    """Shares of ``total`` in proportion to the groups' sizes, by largest remainders (Hamilton's method).

    >>> proportional_budgets(np.array([19] * 3), 6).tolist()
    [2, 2, 2]
    >>> proportional_budgets(np.array([10, 10, 80]), 5).tolist()
    [1, 0, 4]

    Args:
        counts: samples in each group, int64 [g], at least 0.
        total: how many there shall be, 0 <= total <= counts.sum().
        random: decides between groups with equal remainders, so that over many draws none of them is preferred;
            None: the earlier group.

    Returns:
        int64 [g], at most ``counts``, adding up to ``total``.
    """
    size = int(counts.sum())
    if size == 0:
        return np.zeros(len(counts), dtype=np.int64)
    # In whole numbers, as .29 * 100 is 28.999…; they fit as long as there are fewer than 3e9 samples.
    budgets, remainders = np.divmod(counts.astype(np.int64) * total, size)
    return _hand_out(budgets, total - int(budgets.sum()), _descending(remainders, random))


def equal_budgets(counts: Int64Array, total: int, random: np.random.Generator | None = None) -> Int64Array:
    """Shares of ``total`` as equal as the groups' sizes allow; small groups give what they lack to the others.

    >>> equal_budgets(np.array([5, 5, 100]), 60).tolist()
    [5, 5, 50]

    Args:
        counts: samples in each group, int64 [g], at least 0.
        total: how many there shall be, 0 <= total <= counts.sum().
        random: decides which groups get one more where not all can; None: the earlier ones.

    Returns:
        int64 [g], at most ``counts``, adding up to ``total``; two groups that are large enough differ by at most 1.
    """
    order = np.argsort(counts, kind="stable")
    ascending = counts[order].astype(np.int64)
    groups_left = len(counts) - np.arange(len(counts))
    before = np.concatenate(([0], np.cumsum(ascending)[:-1])) if len(counts) else ascending
    # A group is taken whole if an equal share of what smaller groups leave is at least as large.
    whole = ascending * groups_left <= total - before
    num_whole = int(np.argmin(whole)) if not whole.all() else len(counts)
    budgets = np.zeros(len(counts), dtype=np.int64)
    budgets[order[:num_whole]] = ascending[:num_whole]
    rest = np.sort(order[num_whole:])
    if len(rest):
        share, surplus = divmod(total - int(budgets.sum()), len(rest))
        budgets[rest] = share
        budgets = _hand_out(budgets, surplus, rest if random is None else random.permutation(rest))
    return budgets


def weighted_budgets(
    counts: Int64Array, weights: npt.NDArray[np.float64], total: int, random: np.random.Generator | None = None
) -> Int64Array:
    """Shares of ``total`` in proportion to weights, as far as the groups' sizes allow, by largest remainders.

    >>> weighted_budgets(np.array([10, 100]), np.array([3.0, 1.0]), 20).tolist()
    [10, 10]

    Args:
        counts: samples in each group, int64 [g], at least 0.
        weights: of the groups, float64 [g], at least 0.
        total: how many there shall be, 0 <= total <= the counts of groups with weight.
        random: decides between groups with equal remainders; None: the earlier group.

    Returns:
        int64 [g], at most ``counts``, adding up to ``total``.
    """
    budgets = np.zeros(len(counts), dtype=np.int64)
    left = np.flatnonzero((weights > 0) & (counts > 0))
    rest = total
    while len(left) and rest > 0:
        shares = rest * (weights[left] / weights[left].sum())
        full = shares >= counts[left]
        if not full.any():
            floors = np.floor(shares).astype(np.int64)
            surplus = rest - int(floors.sum())
            floors = _hand_out(floors, surplus, _descending(shares - floors, random))
            budgets[left] = np.minimum(floors, counts[left])
            break
        budgets[left[full]] = counts[left[full]]
        rest -= int(counts[left[full]].sum())
        left = left[~full]
    return budgets


def _hand_out(budgets: Int64Array, surplus: int, order: Int64Array) -> Int64Array:
    """One more for the first ``surplus`` groups of an order."""
    budgets[order[:surplus]] += 1
    return budgets


def _descending(
    values: npt.NDArray[np.int64] | npt.NDArray[np.float64], random: np.random.Generator | None
) -> Int64Array:
    """Positions from the largest value to the smallest; of equal ones the first, or in any order."""
    if random is None:
        return np.argsort(-values, kind="stable")
    ties = random.permutation(len(values))
    order: Int64Array = ties[np.argsort(-values[ties], kind="stable")]
    return order
