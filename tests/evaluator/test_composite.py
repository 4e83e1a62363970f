from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.plugins.evaluation import Window
from modyn.evaluator import composite
from modyn.evaluator.composite import active_and_trained, summarise

NUM_RANDOM_LOGS = 3_000


def slow_oracle(anchors: list[int], last_timestamps: list[int]) -> tuple[list[int | None], list[int | None]]:
    """The definition, word for word."""
    active: list[int | None] = []
    trained: list[int | None] = []
    for anchor in anchors:
        current: int | None = None
        for model, end in enumerate(last_timestamps):
            if end < anchor:
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
