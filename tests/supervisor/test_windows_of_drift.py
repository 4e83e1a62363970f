"""Which samples are compared: exactly those of the published definition, and samples of them that stay."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.plugins.drift import WINDOWING_STRATEGIES, Samples, WindowingStrategy, Windows
from modyn.supervisor.drift.sampling import hashed, steady_sample
from modyn.supervisor.drift.windows import AmountWindowingStrategy, TimeWindowingStrategy

EXAMPLES: dict[str, dict[str, Any]] = {
    "AmountWindowingStrategy": {"amount_ref": 5, "amount_cur": 3, "allow_overlap": True},
    "TimeWindowingStrategy": {"limit_ref": "5d", "limit_cur": "1h"},
}

Pairs = list[tuple[int, int]]
Step = tuple[list[int], bool]
"""Event times of new samples, and whether there is a training after them."""


class SlowAmount:
    """Windows of so many samples, one sample at a time."""

    def __init__(self, ref: int, cur: int, overlap: bool) -> None:
        self.overlap = overlap
        self.current: deque[tuple[int, int]] = deque(maxlen=cur)
        self.reservoir: deque[tuple[int, int]] = deque(maxlen=max(0, ref - cur))
        self.exclusive: deque[tuple[int, int]] = deque(maxlen=ref)
        self.reference: deque[tuple[int, int]] = deque(maxlen=ref)

    def add(self, samples: Pairs) -> None:
        for sample in samples:
            if len(self.current) == self.current.maxlen:
                self.reservoir.append(self.current[0])
            self.current.append(sample)
            self.exclusive.append(sample)

    def after_training(self) -> None:
        if self.overlap:
            self.reference.extend(self.exclusive)
        else:
            self.reference.extend([*self.reservoir, *self.current])
            self.reservoir.clear()
            self.current.clear()
        self.exclusive.clear()


class SlowTime:
    """Windows of so much data time, with late samples where their event time belongs."""

    def __init__(self, ref: int, cur: int, overlap: bool) -> None:
        self.ref, self.cur, self.overlap = ref, cur, overlap
        self.clock: int | None = None
        self.current: Pairs = []
        self.reservoir: Pairs = []
        self.exclusive: Pairs = []
        self.reference: Pairs = []

    def add(self, samples: Pairs) -> None:
        if not samples:
            return
        times = [time for _, time in samples]
        self.clock = max(times) if self.clock is None else max(self.clock, *times)
        everything = self.current + samples
        self.current = [sample for sample in everything if sample[1] >= self.clock - self.cur]
        self.reservoir += [sample for sample in everything if sample[1] < self.clock - self.cur]
        self.reservoir = [sample for sample in self.reservoir if sample[1] >= self.clock - self.ref]
        self.exclusive = [s for s in self.exclusive + samples if s[1] >= self.clock - self.ref]

    def after_training(self) -> None:
        if self.overlap:
            self.reference += self.exclusive
        else:
            self.reference += sorted(self.reservoir + self.current)  # keys ascend in the order of arrival
            self.reservoir, self.current = [], []
        self.exclusive = []
        if self.reference:
            last = max(time for _, time in self.reference)
            self.reference = [sample for sample in self.reference if sample[1] >= last - self.ref]


def keys_of(pairs: Iterable[tuple[int, int]]) -> list[int]:
    return [key for key, _ in pairs]


def samples(pairs: Pairs) -> Samples:
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Samples(columns[:, 0], columns[:, 1])


def check_against(strategy: WindowingStrategy, slow: SlowAmount | SlowTime, steps: list[Step]) -> None:
    windows, key = Windows(), 0
    for times, trains in steps:
        pairs = [(key + i, time) for i, time in enumerate(times)]
        key += len(times)
        slow.add(pairs)
        windows = strategy.add(windows, samples(pairs))
        for _ in range(2):  # a training right after another moves nothing
            assert windows.reference.keys.tolist() == keys_of(slow.reference)
            assert strategy.current(windows).keys.tolist() == keys_of(slow.current)
            if trains:
                slow.after_training()
                windows = strategy.after_training(windows)
        windows = Windows.model_validate_json(windows.model_dump_json())
    assert windows.reference.keys.tolist() == keys_of(slow.reference)
    assert windows.reference.timestamps.tolist() == [time for _, time in slow.reference]
    assert strategy.current(windows).keys.tolist() == keys_of(slow.current)


steps = st.lists(st.tuples(st.lists(st.integers(-20, 120), max_size=15), st.booleans()), max_size=8)
ordered = steps.map(
    lambda given: [(sorted(120 * i + time for time in times), trains) for i, (times, trains) in enumerate(given)]
)


@settings(deadline=None)
@given(steps=steps, ref=st.integers(1, 30), cur=st.integers(1, 30), overlap=st.booleans())
def test_windows_of_samples_equal_the_definition(steps: list[Step], ref: int, cur: int, overlap: bool) -> None:
    strategy = AmountWindowingStrategy(amount_ref=ref, amount_cur=cur, allow_overlap=overlap)
    check_against(strategy, SlowAmount(ref, cur, overlap), steps)


@settings(deadline=None)
@given(steps=steps | ordered, ref=st.integers(1, 300), cur=st.integers(1, 300), overlap=st.booleans())
def test_windows_of_time_equal_the_definition(steps: list[Step], ref: int, cur: int, overlap: bool) -> None:
    strategy = TimeWindowingStrategy(limit_ref=ref, limit_cur=cur, allow_overlap=overlap)
    check_against(strategy, SlowTime(ref, cur, overlap), steps)


def shown(strategy: WindowingStrategy, windows: Windows) -> tuple[list[int], list[int]]:
    return windows.reference.keys.tolist(), strategy.current(windows).keys.tolist()


def fed(strategy: WindowingStrategy, windows: Windows, first: int, times: list[int]) -> Windows:
    return strategy.add(windows, samples(list(enumerate(times, first))))


def test_windows_of_samples_without_overlap() -> None:
    strategy = AmountWindowingStrategy(amount_ref=5, amount_cur=2)
    windows = fed(strategy, Windows(), 0, [0] * 3)
    assert shown(strategy, windows) == ([], [1, 2])  # 0 waits in the reservoir
    windows = strategy.after_training(windows)
    assert shown(strategy, windows) == ([0, 1, 2], [])
    windows = fed(strategy, windows, 3, [0])
    assert shown(strategy, windows) == ([0, 1, 2], [3])
    windows = fed(strategy, windows, 4, [0] * 5)
    assert shown(strategy, windows) == ([0, 1, 2], [7, 8])  # the reservoir: 4, 5, 6; 3 is forgotten
    windows = strategy.after_training(windows)
    assert shown(strategy, windows) == ([4, 5, 6, 7, 8], [])


def test_windows_of_samples_with_overlap() -> None:
    strategy = AmountWindowingStrategy(amount_ref=3, amount_cur=4, allow_overlap=True)
    windows = strategy.after_training(fed(strategy, Windows(), 0, [0] * 3))
    assert shown(strategy, windows) == ([0, 1, 2], [0, 1, 2])
    windows = fed(strategy, windows, 3, [0] * 2)
    assert shown(strategy, windows) == ([0, 1, 2], [1, 2, 3, 4])
    windows = strategy.after_training(windows)
    assert shown(strategy, windows) == ([2, 3, 4], [1, 2, 3, 4])


def test_windows_of_time_without_overlap() -> None:
    strategy = TimeWindowingStrategy(limit_ref="20s", limit_cur="5s")
    windows = fed(strategy, Windows(), 0, [0, 10, 25, 30])
    assert shown(strategy, windows) == ([], [2, 3])  # 25 and 30; 10 waits, 0 is forgotten
    windows = strategy.after_training(windows)
    assert shown(strategy, windows) == ([1, 2, 3], [])
    windows = fed(strategy, windows, 4, [31, 60])
    assert shown(strategy, windows) == ([1, 2, 3], [5])  # the reference does not age
    windows = strategy.after_training(windows)
    assert shown(strategy, windows) == ([5], [])


def test_windows_of_time_with_overlap() -> None:
    strategy = TimeWindowingStrategy(limit_ref="20s", limit_cur="5s", allow_overlap=True)
    windows = strategy.after_training(fed(strategy, Windows(), 0, [0, 10, 25, 30]))
    assert shown(strategy, windows) == ([1, 2, 3], [2, 3])
    windows = fed(strategy, windows, 4, [32])
    assert shown(strategy, windows) == ([1, 2, 3], [3, 4])
    assert shown(strategy, strategy.after_training(windows)) == ([2, 3, 4], [3, 4])


def test_a_late_sample_is_in_the_window_of_its_time() -> None:
    strategy = TimeWindowingStrategy(limit_ref="20s", limit_cur="5s")
    windows = fed(strategy, Windows(), 0, [100, 92, 97, 70])
    assert shown(strategy, windows) == ([], [0, 2])
    assert shown(strategy, strategy.after_training(windows)) == ([0, 1, 2], [])


def test_windows_before_the_first_sample_are_empty() -> None:
    for strategy in (AmountWindowingStrategy(), TimeWindowingStrategy(limit_ref="1d", limit_cur="1d")):
        assert shown(strategy, strategy.after_training(strategy.add(Windows(), samples([])))) == ([], [])


@pytest.mark.parametrize("name", WINDOWING_STRATEGIES.names())
def test_a_strategy_survives_dump_and_parse(name: str) -> None:
    strategy = WINDOWING_STRATEGIES.parse({"id": name, **EXAMPLES[name]})
    assert WINDOWING_STRATEGIES.parse(WINDOWING_STRATEGIES.dump(strategy)) == strategy


def test_wrong_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        AmountWindowingStrategy(amount_ref=0)
    with pytest.raises(ValidationError):
        WINDOWING_STRATEGIES.parse({"id": "TimeWindowingStrategy", "limit_ref": "1d"})


window = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 50)), max_size=60, unique_by=lambda pair: pair[0])


@settings(deadline=None)
@given(pairs=window, size=st.none() | st.integers(1, 70))
def test_a_sample_has_the_smallest_hashes_in_the_order_of_time(pairs: Pairs, size: int | None) -> None:
    chosen = steady_sample(samples(pairs), size).tolist()
    by_hash = sorted(keys_of(pairs), key=slow_hash)[:size]
    assert sorted(chosen) == sorted(by_hash)
    times = dict(pairs)
    assert chosen == sorted(chosen, key=lambda key: (times[key], key))


def slow_hash(key: int) -> int:
    """SplitMix64 in whole numbers of any size."""
    word = (1 << 64) - 1
    mixed = (key + 0x9E3779B97F4A7C15) & word
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & word
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & word
    return mixed ^ (mixed >> 31)


def test_the_hash_is_that_of_the_paper() -> None:
    """First outputs of the generator with seed 1234567, whose state grows by the constant that is added here."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    step = np.uint64(0x9E3779B97F4A7C15)
    states = (np.uint64(1234567) + step * np.arange(3, dtype=np.uint64)).view(np.int64)
    assert hashed(states).tolist() == expected


def test_a_sample_stays_while_its_window_slides() -> None:
    keys = np.arange(20_000)
    shown_once: set[int] = set()
    changes = 0
    for end in range(5_000, 20_000, 500):
        chosen = set(steady_sample(Samples(keys[end - 5_000 : end], keys[end - 5_000 : end]), 1_000).tolist())
        changes += len(chosen - shown_once)
        shown_once |= chosen
    assert changes <= 0.25 * 20_000  # about as many as there are in a sample of a fifth of all
    assert len(shown_once) == changes
