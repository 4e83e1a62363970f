from __future__ import annotations

import doctest
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Window
from modyn.evaluator import composite
from modyn.evaluator.composite import active_and_trained, live_from, summarise

NUM_RANDOM_LOGS = 3_000

ANY_SECOND = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1]) | st.integers(-3, 3)


def slow_oracle(
    anchors: list[int], last_timestamps: list[int], live: list[float] | None = None
) -> tuple[list[int | None], list[int | None]]:
    """The definition, word for word."""
    active: list[int | None] = []
    trained: list[int | None] = []
    for anchor in anchors:
        current: int | None = None
        for model, end in enumerate(last_timestamps):
            if end < anchor and (live is None or live[model] <= anchor):
                current = model
        active.append(current)
        if not last_timestamps:
            trained.append(None)
        elif current is None:
            trained.append(0)
        elif current == len(last_timestamps) - 1:
            trained.append(current)
        else:
            trained.append(current + 1)
    return active, trained


def both(anchors: list[int], last_timestamps: list[int]) -> tuple[list[int | None], list[int | None]]:
    return active_and_trained(np.array(anchors, dtype=np.int64), np.array(last_timestamps, dtype=np.int64))


def test_the_documented_examples_hold() -> None:
    assert doctest.testmod(composite).failed == 0


def test_thousands_of_random_trigger_logs_agree_with_the_slow_oracle() -> None:
    rng = np.random.default_rng(2024)
    for _ in range(NUM_RANDOM_LOGS):
        span = int(rng.integers(1, 200))  # small, so that ties between anchors and ends are common
        models = int(rng.integers(0, 12))
        last = np.maximum.accumulate(np.sort(rng.integers(0, span, models))) if models else np.empty(0, dtype=np.int64)
        anchors = rng.integers(-5, span + 20, int(rng.integers(0, 40)))
        assert active_and_trained(anchors, last) == slow_oracle(anchors.tolist(), last.tolist())


@settings(max_examples=500)
@given(anchors=st.lists(st.integers(0, 30), max_size=20), last=st.lists(st.integers(0, 30), max_size=10))
def test_any_trigger_log_agrees_with_the_slow_oracle_even_an_unordered_one(anchors: list[int], last: list[int]) -> None:
    assert both(anchors, last) == slow_oracle(anchors, last)


def slow_live_from(fired: list[int], seconds: list[Fraction]) -> list[Fraction]:
    """A queue of one trainer, second by second of its calendar."""
    free: Fraction | None = None
    live: list[Fraction] = []
    for at, taken in zip(fired, seconds, strict=True):
        begin = Fraction(at) if free is None or free <= at else free
        free = begin + taken
        live.append(free)
    return live


def test_thousands_of_random_trigger_logs_with_training_times_agree_with_the_slow_oracle() -> None:
    rng = np.random.default_rng(2025)
    for _ in range(NUM_RANDOM_LOGS):
        span, models = int(rng.integers(1, 100)), int(rng.integers(0, 10))
        last = np.sort(rng.integers(0, span, models))
        fired = last + rng.integers(0, 2, models)
        seconds = [Fraction(int(quarters), 4) for quarters in rng.integers(0, 60, models)]  # whole seconds, and others
        expected = [float(moment) for moment in slow_live_from(fired.tolist(), seconds)]
        live = live_from(fired, np.array(seconds, dtype=np.float64))
        assert live.tolist() == expected
        anchors = rng.integers(-5, span + 60, int(rng.integers(0, 25)))
        assert active_and_trained(anchors, last, live) == slow_oracle(anchors.tolist(), last.tolist(), expected)


@settings(max_examples=300)
@given(
    anchors=st.lists(ANY_SECOND, max_size=10),
    models=st.lists(st.tuples(ANY_SECOND, st.floats(allow_nan=True)), max_size=6),
)
def test_any_moment_of_64_bits_agrees_with_the_slow_oracle(anchors: list[int], models: list[tuple[int, float]]) -> None:
    last, live = [end for end, _ in models], [moment for _, moment in models]
    found = active_and_trained(np.array(anchors, dtype=np.int64), np.array(last, dtype=np.int64), np.array(live))
    assert found == slow_oracle(anchors, last, live)


def test_training_that_takes_no_time_changes_nothing() -> None:
    last = np.array([3, 3, 10, 20])
    anchors = np.arange(30)
    live = live_from(last, np.zeros(4))
    assert active_and_trained(anchors, last, live) == active_and_trained(anchors, last)


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_a_training_of_unknown_length_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidInputError, match=r"training 1 took .* expected a time of zero or more seconds"):
        live_from(np.array([1, 2]), np.array([0.0, wrong]))


def test_a_hundred_thousand_windows_and_a_thousand_models_take_no_loop_over_both() -> None:
    rng = np.random.default_rng(1)
    last = np.sort(rng.integers(0, 10**9, 1_000))
    anchors = rng.integers(0, 10**9, 100_000)
    live = live_from(last, rng.uniform(0, 10**6, 1_000))
    begin = time.process_time()
    active, _ = active_and_trained(anchors, last, live)
    assert time.process_time() - begin < 1  # a comparison of each with each takes longer
    some = [0, 1, 99_999]
    assert [active[i] for i in some] == slow_oracle(anchors[some].tolist(), last.tolist(), live.tolist())[0]


@pytest.mark.parametrize(
    ("anchors", "last", "active", "trained"),
    [
        ([0, 5], [], [None, None], [None, None]),
        ([], [3], [], []),
        ([3], [3], [None], [0]),  # ends at the anchor: not yet active
        ([4], [3], [0], [0]),  # one model: it is its own successor
        ([4], [3, 3, 3], [2], [2]),  # triggers at the same moment: the last of them
        ([1, 10, 20, 21, 99], [10, 20, 20], [None, None, 0, 2, 2], [0, 0, 1, 2, 2]),
    ],
)
def test_edge_cases(anchors: list[int], last: list[int], active: list[int | None], trained: list[int | None]) -> None:
    assert both(anchors, last) == (active, trained)


def test_every_window_falls_into_exactly_one_count() -> None:
    windows = [Window(0, 10, 0), Window(10, 20, 10), Window(20, 60, 20), Window(60, 70, 60), Window(70, 71, 70)]
    summary = summarise(
        windows,
        [0.25, 1.0, 0.5, None, None],
        samples=[3, 0, 7, 2, 2],
        has_model=[True, True, True, False, True],
    )
    assert summary.mean == pytest.approx(0.375)
    assert summary.time_weighted == pytest.approx((0.25 * 10 + 0.5 * 40) / 50)
    assert (summary.scored, summary.empty, summary.without_model, summary.undefined) == (2, 1, 1, 1)
    assert summary.counted == (True, False, True, False, False)


def test_without_a_scored_window_there_is_no_mean() -> None:
    summary = summarise([Window(0, 1, 0)], [None], samples=[0], has_model=[False])
    assert (summary.mean, summary.time_weighted, summary.empty) == (None, None, 1)
    assert summarise([], [], samples=[], has_model=[]).mean is None


@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 1_000),
            st.none() | st.floats(0, 1),
            st.integers(0, 3),
            st.booleans(),
        )
    )
)
def test_means_are_those_of_a_plain_loop(rows: list[tuple[int, float | None, int, bool]]) -> None:
    windows = [Window(0, length, 0) for length, *_ in rows]
    summary = summarise(windows, [r[1] for r in rows], samples=[r[2] for r in rows], has_model=[r[3] for r in rows])
    kept = [(length, score) for length, score, size, model in rows if size and model and score is not None]
    assert summary.scored + summary.empty + summary.without_model + summary.undefined == len(rows)
    if not kept:
        assert summary.mean is None
        return
    assert summary.mean == pytest.approx(math.fsum(s for _, s in kept) / len(kept))
    weight = sum(n for n, _ in kept)
    assert summary.time_weighted == pytest.approx(math.fsum(n * s for n, s in kept) / weight)
