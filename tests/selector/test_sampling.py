from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.randomness import Purpose, generator
from modyn.selector.sampling import Codes, Mask, last, part, pieces, sample_mask, stratified_mask, take, uniform_sample
from modyn.selector.strata import drawn_budgets, group_probabilities
from modyn.selector.used import cycle_groups, used_before
from tests.helpers.keys import key_sets


@given(n=st.integers(0, 300), target=st.integers(-1, 310), seed=st.integers(0, 2**63 - 1), index=st.integers(0, 9))
def test_sizes_are_exact(n: int, target: int, seed: int, index: int) -> None:
    mask = sample_mask(n, target, seed=seed, purpose=Purpose.SELECTION, index=index)
    assert mask.sum() == min(n, max(0, target))
    again = sample_mask(n, target, seed=seed, purpose=Purpose.SELECTION, index=index)
    assert (mask == again).all()


def test_draws_for_other_seeds_purposes_and_triggers_differ() -> None:
    masks = [
        sample_mask(1000, 500, seed=seed, purpose=purpose, index=index)
        for seed in (0, 1)
        for purpose in (Purpose.SELECTION, Purpose.PRESAMPLING)
        for index in (0, 1)
    ]
    overlaps = [np.mean(a == b) for i, a in enumerate(masks) for b in masks[:i]]
    assert max(overlaps) < 0.6  # independent halves agree on half of the positions


def test_every_position_is_equally_likely() -> None:
    runs, n, target = 4000, 20, 5
    counts = sum(sample_mask(n, target, seed=0, purpose=Purpose.SELECTION, index=i).astype(int) for i in range(runs))
    expected = runs * target / n
    deviation = (counts - expected) / np.sqrt(expected * (1 - target / n))
    # positions of one draw are nearly independent: chi-square of 19 degrees, 1e-6 quantile 64
    assert (deviation**2).sum() < 64


def test_every_pair_is_equally_likely() -> None:
    runs, n, target = 6000, 6, 2
    pairs = np.zeros((n, n))
    for index in range(runs):
        a, b = np.flatnonzero(sample_mask(n, target, seed=1, purpose=Purpose.SELECTION, index=index))
        pairs[a, b] += 1
    found = pairs[np.triu_indices(n, 1)]
    expected = runs / 15
    assert ((found - expected) ** 2 / expected).sum() < 55  # chi-square of 14 degrees, 1e-6 quantile


def test_equal_draws_still_give_the_exact_size(monkeypatch: pytest.MonkeyPatch) -> None:
    class Constant:
        class bit_generator:  # noqa: N801
            state = 0

            @staticmethod
            def random_raw(n: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
                return np.zeros(n, dtype=np.uint64)

    monkeypatch.setattr("modyn.selector.sampling.generator", lambda *_: Constant)
    assert sample_mask(10, 4, seed=0, purpose=Purpose.SELECTION, index=0).sum() == 4


@given(keys=key_sets(), data=st.data())
def test_take_is_indexing(keys: KeySet, data: st.DataObject) -> None:
    array = keys.to_array()
    chosen = sorted(data.draw(st.sets(st.integers(0, max(0, len(array) - 1)), max_size=len(array))))
    positions = np.array(chosen if len(array) else [], dtype=np.int64)
    assert take(keys, positions).to_array().tolist() == array[positions].tolist()


@given(keys=key_sets(), start=st.integers(0, 60), length=st.integers(0, 60))
def test_part_is_slicing(keys: KeySet, start: int, length: int) -> None:
    assert part(keys, start, start + length).to_array().tolist() == keys.to_array()[start : start + length].tolist()
    assert last(keys, length).to_array().tolist() == keys.to_array()[max(0, len(keys) - length) :].tolist()


@given(keys=key_sets(), target=st.integers(0, 60))
def test_a_uniform_sample_keeps_the_order(keys: KeySet, target: int) -> None:
    array = keys.to_array().tolist()
    sample = uniform_sample(keys, target, seed=3, purpose=Purpose.SELECTION, index=1).to_array().tolist()
    assert len(sample) == min(target, len(array))
    positions = [array.index(key) for key in sample]
    assert positions == sorted(set(positions))


def test_ten_million_keys_take_less_than_two_seconds() -> None:
    keys = KeySet(ranges=(KeyRange(0, 4_000_000), KeyRange(5_000_000, 11_000_000)))
    started = time.process_time()
    sample = uniform_sample(keys, 1_000_000, seed=0, purpose=Purpose.SELECTION, index=0)
    assert time.process_time() - started < 2
    assert len(sample) == 1_000_000


def exact_mask(codes: Codes, budgets: Int64Array, seed: int) -> Mask:
    """The smallest of all numbers of each group."""
    draws = generator(seed, Purpose.SELECTION, 0).bit_generator.random_raw(len(codes))
    mask = np.zeros(len(codes), dtype=np.bool_)
    for group, budget in enumerate(budgets):
        members = np.flatnonzero(codes == group)
        mask[members[np.argsort(draws[members], kind="stable")[:budget]]] = True
    return mask


@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5), seed=st.integers(0, 999), data=st.data())
def test_strata_against_an_oracle(sizes: list[int], seed: int, data: st.DataObject) -> None:
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes), dtype=np.int8), sizes))
    budgets = np.array([data.draw(st.integers(0, size)) for size in sizes])
    mask = stratified_mask(codes, np.array(sizes), budgets, generator(seed, Purpose.SELECTION, 0))
    assert (mask == exact_mask(codes, budgets, seed)).all()


@pytest.mark.parametrize("deviations", [6.0, 0.0, -3.0])
def test_improbable_numbers_change_nothing(deviations: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modyn.selector.sampling._DEVIATIONS", deviations)  # too few: groups are looked at again
    monkeypatch.setattr("modyn.selector.sampling.CHUNK", 1000)
    codes = np.random.default_rng(0).choice(4, 20_000, p=[0.9, 0.08, 0.0199, 0.0001]).astype(np.int8)
    counts = np.bincount(codes, minlength=4)
    budgets = np.array([5000, counts[1], counts[2] // 2, 1])
    mask = stratified_mask(codes, counts, budgets, generator(7, Purpose.SELECTION, 0))
    assert (mask == exact_mask(codes, budgets, 7)).all()
    single = sample_mask(20_000, 321, seed=7, purpose=Purpose.SELECTION, index=0)
    assert (single == exact_mask(np.zeros(20_000, dtype=np.int64), np.array([321]), 7)).all()


@given(keys=key_sets(), size=st.integers(1, 70))
def test_pieces_make_up_the_whole(keys: KeySet, size: int) -> None:
    parts = list(pieces(keys, size))
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert [key for part in parts for key in part.to_array()] == keys.to_array().tolist()


@given(candidates=key_sets(), selected=st.lists(key_sets(), max_size=4), far=st.booleans())
def test_used_keys_against_sets(candidates: KeySet, selected: list[KeySet], far: bool) -> None:
    if far:  # too far apart for a table with a place for each number between
        candidates, *selected = (KeySet.from_array(keys.to_array() * 10**9) for keys in (candidates, *selected))
    wanted = candidates.to_array().tolist()
    before = {key for keys in selected for key in keys.to_array().tolist()}
    assert used_before(candidates, selected).tolist() == [key in before for key in wanted]
    cycle: set[int] = set()
    for keys in selected:
        drawn = set(keys.to_array().tolist()) & set(wanted)
        again = cycle & drawn
        cycle = again or cycle | drawn
    expected = [2 if key in cycle else int(key in before) for key in wanted]
    assert cycle_groups(candidates, selected).tolist() == expected


@given(
    groups=st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.0, 1e-9, 0.3, 1.0, 7.0, 1e12])), max_size=8),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_budgets_of_weighted_groups(groups: list[tuple[int, float]], share: float, seed: int) -> None:
    counts = np.array([count for count, _ in groups], dtype=np.int64)
    weights = np.array([weight for _, weight in groups], dtype=np.float64)
    size = int(share * counts[weights > 0].sum())
    chances = group_probabilities(counts, weights, size)
    assert (chances >= 0).all()
    assert (chances <= 1).all()
    assert (counts * chances).sum() == pytest.approx(size)
    below = (chances < 1) & (counts > 0) & (weights > 0)
    if below.any() and size:
        ratios = chances[below] / weights[below]
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    budgets = drawn_budgets(counts, chances, size, generator(seed, Purpose.SELECTION, 0))
    assert budgets.sum() == size
    assert (budgets <= counts).all()
    assert (np.abs(budgets - counts * chances) < 1 + 1e-9).all()


@pytest.mark.parametrize("tiny", [5e-324, 1e-320, 1e-310, 1e-300, 1e-150])
def test_tiny_weights_keep_sizes_exact(tiny: float) -> None:
    counts, weights = np.array([5, 5, 5]), np.array([tiny, 1.0, tiny])
    chances = group_probabilities(counts, weights, 7)
    np.testing.assert_allclose(chances, [0.2, 1.0, 0.2])
    for index in range(20):
        budgets = drawn_budgets(counts, chances, 7, generator(0, Purpose.SELECTION, index))
        assert (budgets[1], budgets.sum()) == (5, 7)


def test_budgets_have_their_expectation() -> None:
    counts, chances = np.array([3, 10, 7, 1]), np.array([0.1, 0.25, 1.0, 0.2])
    drawn = [drawn_budgets(counts, chances, 10, generator(0, Purpose.SELECTION, i)) for i in range(3000)]
    np.testing.assert_allclose(np.mean(drawn, axis=0), counts * chances, atol=0.04)
