from __future__ import annotations

import doctest
import math
from statistics import fmean

import numpy as np
import pytest

from modyn.core.plugins.evaluation import Window
from modyn.evaluator import transfer as module
from modyn.evaluator.transfer import Transfer, transfer

NUM_RANDOM_MATRICES = 1_500


def slow_oracle(
    scores: list[list[float]],
    windows: list[Window],
    last: list[int],
    baseline: list[float] | None,
    greater_is_better: bool,
) -> Transfer:
    """The definitions, window by window."""
    sign = 1 if greater_is_better else -1
    forgotten: list[float] = []
    backward: list[float] = []
    forward: list[float] = []
    for w, window in enumerate(windows):
        column = [sign * row[w] for row in scores]
        learned = [i for i, end in enumerate(last[:-1]) if end >= window.end - 1]
        if learned and math.isfinite(column[learned[0]]) and math.isfinite(column[-1]):
            known = [column[i] for i in learned if math.isfinite(column[i])]
            forgotten.append(max(known) - column[-1])
            backward.append(column[-1] - column[learned[0]])
        unseen = [i for i, end in enumerate(last) if end < window.start]
        if unseen and baseline is not None and math.isfinite(column[unseen[-1]]) and math.isfinite(baseline[w]):
            forward.append(column[unseen[-1]] - sign * baseline[w])
    return Transfer(
        fmean(forgotten) if forgotten else None,
        fmean(backward) if backward else None,
        fmean(forward) if forward else None,
        len(backward),
        len(forward),
    )


def test_the_documented_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_random_matrices_agree_with_the_slow_oracle() -> None:
    rng = np.random.default_rng(7)
    for _ in range(NUM_RANDOM_MATRICES):
        models, count, span = int(rng.integers(0, 7)), int(rng.integers(0, 8)), 40
        last = np.sort(rng.integers(0, span, models))
        starts = rng.integers(-5, span + 5, count)
        windows = [Window(int(s), int(s + n), int(s)) for s, n in zip(starts, rng.integers(1, 12, count), strict=True)]
        scores = np.where(rng.random((models, count)) < 0.2, np.nan, rng.normal(size=(models, count)))
        scores[rng.random((models, count)) < 0.05] = np.inf
        baseline = None if rng.random() < 0.2 else np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count))
        better = bool(rng.random() < 0.5)
        found = transfer(scores, windows=windows, last_timestamps=last, baseline=baseline, greater_is_better=better)
        expected = slow_oracle(
            scores.tolist(), windows, last.tolist(), None if baseline is None else baseline.tolist(), better
        )
        assert (found.windows_backward, found.windows_forward) == (expected.windows_backward, expected.windows_forward)
        for name in ("forgetting", "backward_transfer", "forward_transfer"):
            value, truth = getattr(found, name), getattr(expected, name)
            assert value == (None if truth is None else pytest.approx(truth)), name


@pytest.mark.parametrize("loss", [False, True])
def test_forgetting_is_positive_where_the_last_model_is_worse_whatever_the_metric(loss: bool) -> None:
    windows = [Window(0, 10, 0), Window(10, 20, 10)]
    scores = np.array([[0.9, 0.4], [0.7, 0.8]])
    found = transfer(
        1 - scores if loss else scores,
        windows=windows,
        last_timestamps=np.array([9, 19]),
        baseline=np.array([0.5, 0.5]),
        greater_is_better=not loss,
    )
    assert found.forgetting == pytest.approx(0.2)
    assert found.backward_transfer == pytest.approx(-0.2)
    assert found.forward_transfer == pytest.approx(-0.1)
    assert (found.windows_backward, found.windows_forward) == (1, 1)


def test_a_window_that_a_model_has_seen_in_part_is_neither_learned_nor_ahead() -> None:
    found = transfer(
        np.array([[0.5], [0.6]]),
        windows=[Window(5, 15, 5)],
        last_timestamps=np.array([9, 13]),
        baseline=np.array([0.1]),
        greater_is_better=True,
    )
    assert found == Transfer(None, None, None, 0, 0)
