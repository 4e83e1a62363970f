from __future__ import annotations

import doctest
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.evaluator import baselines
from modyn.evaluator.baselines import BASELINES, BaselinePredictions, Labelled, running_mode

HOUR, DAY = 3_600, 86_400

Row = tuple[int, int, int]
"""Timestamp, label, how many seconds later the label was known (negative: earlier)."""

STREAMS = st.lists(st.tuples(st.integers(0, 12), st.integers(-3, 4), st.integers(-3, 6)), max_size=50).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)
HOURLY_STREAMS = st.lists(
    st.tuples(
        st.integers(-10 * 24, 10 * 24).map(lambda hour: hour * HOUR + hour % 7),
        st.integers(0, 2),
        st.sampled_from([0, 0, 1, HOUR, 2 * DAY]),
    ),
    max_size=50,
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


def labelled(rows: list[Row]) -> Labelled:
    times, labels, delays = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
    return Labelled(times, labels, times + delays)


def prompt(rows: list[Row]) -> list[Row]:
    return [(t, label, 0) for t, label, _ in rows]


def listed(said: BaselinePredictions) -> list[int | None]:
    return [p if d else None for p, d in zip(said.predictions.tolist(), said.defined.tolist(), strict=True)]


def slow_majority(rows: list[Row], same: Callable[[int], object]) -> list[int | None]:
    said: list[int | None] = []
    for now, _, _ in rows:
        counts = Counter(label for t, label, d in rows if t < now and t + d < now and same(t) == same(now))
        said.append(min(counts, key=lambda label: (-counts[label], label)) if counts else None)
    return said


def slow_last_label(rows: list[Row]) -> list[int | None]:
    said: list[int | None] = []
    for position, (now, _, _) in enumerate(rows):
        known = [label for t, label, d in rows[:position] if t + d <= now]
        said.append(known[-1] if known else None)
    return said


def test_the_documented_examples_hold() -> None:
    assert doctest.testmod(baselines).failed == 0


@settings(max_examples=250)
@given(STREAMS)
def test_majority_class_is_that_of_a_slow_loop(rows: list[Row]) -> None:
    for stream in (rows, prompt(rows)):
        assert listed(BASELINES["majority_class"](labelled(stream))) == slow_majority(stream, lambda t: None)


@settings(max_examples=250)
@given(STREAMS)
def test_last_label_is_that_of_a_slow_loop(rows: list[Row]) -> None:
    for stream in (rows, prompt(rows)):
        assert listed(BASELINES["last_label"](labelled(stream))) == slow_last_label(stream)
    assert listed(BASELINES["last_label"](labelled(prompt(rows)))) == [None, *(row[1] for row in rows)][: len(rows)]


@settings(max_examples=150)
@given(HOURLY_STREAMS)
def test_seasonal_majorities_are_those_of_a_slow_loop(rows: list[Row]) -> None:
    of_day = slow_majority(rows, lambda t: t // HOUR % 24)
    assert listed(BASELINES["same_hour_of_day"](labelled(rows))) == of_day
    of_week = slow_majority(rows, lambda t: (t // HOUR % 24, t // DAY % 7))
    assert listed(BASELINES["same_hour_of_week"](labelled(rows))) == of_week


@settings(max_examples=25)
@given(STREAMS)
def test_no_baseline_looks_at_a_label_before_it_is_known(rows: list[Row]) -> None:
    data = labelled(rows)
    position = np.arange(len(rows))
    for baseline in BASELINES.values():
        whole = listed(baseline(data))
        for cut, now in enumerate(data.timestamps):
            future = (position >= cut) | (data.known_at > now)
            changed = Labelled(data.timestamps, np.where(future, 99, data.labels), data.known_at)
            assert listed(baseline(changed))[cut] == whole[cut]


def test_a_seasonal_label_is_learned_after_one_season() -> None:
    hours = np.arange(24 * 28)
    label = np.where((hours // 24 % 7 >= 5) & (hours % 24 >= 12), 1, 0)  # weekend afternoons
    data = Labelled(hours * HOUR, label, hours * HOUR)
    for name, season, right in (("same_hour_of_day", 24, 1 - 4 * 24 / (24 * 27)), ("same_hour_of_week", 24 * 7, 1.0)):
        said = BASELINES[name](data)
        assert said.defined.tolist() == (hours >= season).tolist()
        assert (said.predictions == label)[said.defined].mean() == pytest.approx(right)


def test_labels_far_apart_are_told_apart() -> None:
    far = np.array([2**63 - 1, -(2**63), -(2**63), 2**63 - 1, 2**40, 2**40, 2**40])
    assert running_mode(far).tolist() == [far[0], far[1], far[1], far[1], far[1], far[1], 2**40]


@given(st.lists(st.sampled_from([0, 1, 2**16, 2**16 + 1, 2**30, -5]), max_size=40))
def test_the_running_mode_is_that_of_every_prefix(labels: list[int]) -> None:
    expected = []
    for stop in range(1, len(labels) + 1):
        counts = Counter(labels[:stop])
        expected.append(min(counts, key=lambda label: (-counts[label], label)))
    assert running_mode(np.array(labels, dtype=np.int64)).tolist() == expected


def test_the_running_mode_takes_a_million_samples_of_many_classes_in_linear_memory_and_little_time() -> None:
    labels = np.random.default_rng(1).integers(0, 200_000, 1_000_000)
    begin = time.perf_counter()
    modes = running_mode(labels)
    assert time.perf_counter() - begin < 5
    counts = np.bincount(labels)
    assert modes[-1] == np.argmax(counts)
