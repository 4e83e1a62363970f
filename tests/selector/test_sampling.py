from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.keysets import KeyRange, KeySet
from modyn.core.randomness import Purpose
from modyn.selector.sampling import last, part, sample_mask, take, uniform_sample
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
