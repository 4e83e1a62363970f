from __future__ import annotations

import doctest
import time
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.evaluator import baselines
from modyn.evaluator.baselines import BASELINES, last_label, majority_class, running_mode

STREAMS = st.lists(st.tuples(st.integers(0, 12), st.integers(-3, 4)), max_size=60).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)


def columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([t for t, _ in rows], dtype=np.int64),
        np.array([label for _, label in rows], dtype=np.int64),
    )


def slow_majority(rows: list[tuple[int, int]]) -> list[int | None]:
    said: list[int | None] = []
    for timestamp, _ in rows:
        counts = Counter(label for t, label in rows if t < timestamp)
        said.append(min(counts, key=lambda label: (-counts[label], label)) if counts else None)
    return said


def test_the_documented_examples_hold() -> None:
    assert doctest.testmod(baselines).failed == 0


@settings(max_examples=400)
@given(STREAMS)
def test_majority_class_is_that_of_a_slow_loop(rows: list[tuple[int, int]]) -> None:
    said = majority_class(*columns(rows))
    expected = slow_majority(rows)
    assert said.defined.tolist() == [label is not None for label in expected]
    assert said.predictions[said.defined].tolist() == [label for label in expected if label is not None]


@given(STREAMS)
def test_last_label_is_that_of_a_slow_loop(rows: list[tuple[int, int]]) -> None:
    said = last_label(*columns(rows))
    assert said.defined.tolist() == [i > 0 for i in range(len(rows))]
    assert said.predictions[1:].tolist() == [label for _, label in rows[:-1]]


@given(STREAMS)
def test_no_baseline_looks_at_the_label_it_predicts_or_at_later_ones(rows: list[tuple[int, int]]) -> None:
    timestamps, labels = columns(rows)
    for baseline in BASELINES.values():
        whole = baseline(timestamps, labels)
        for cut in range(len(rows)):
            changed = labels.copy()
            changed[cut:] = 99
            part = baseline(timestamps, changed)
            assert part.predictions[cut : cut + 1].tolist() == whole.predictions[cut : cut + 1].tolist()


def test_the_running_mode_takes_a_million_samples_of_many_classes_in_linear_memory_and_little_time() -> None:
    labels = np.random.default_rng(1).integers(0, 200_000, 1_000_000)
    begin = time.perf_counter()
    modes = running_mode(labels)
    assert time.perf_counter() - begin < 5
    counts = np.bincount(labels)
    assert modes[-1] == np.argmax(counts)
