"""The drift trigger: what it compares when, and what it says about it."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.triggers import (
    Features,
    Finding,
    Guards,
    TrainingOutcome,
)
from modyn.supervisor.drift.aggregation import AnyVote, AtLeastN
from modyn.supervisor.drift.criteria import (
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    HypothesisTestCriterion,
    ThresholdDecisionCriterion,
)
from modyn.supervisor.drift.windows import AmountWindowingStrategy, TimeWindowingStrategy
from modyn.supervisor.guards import guarded
from modyn.supervisor.triggers.amount import DataAmountTrigger
from modyn.supervisor.triggers.drift import DataDriftTrigger
from tests.helpers.drifting import Broken, Gap, above, run, shifting
from tests.helpers.feeding import fed, stream
from tests.helpers.observing import ArrayObserver


def slow_run(values: list[float], trigger: DataDriftTrigger, critical: float) -> list[tuple[int, float | None, bool]]:
    """(samples seen, distance, fires) of each evaluation of one metric with a fixed threshold, sample by sample."""
    strategy = trigger.windowing_strategy
    assert isinstance(strategy, AmountWindowingStrategy)
    points, warmup = trigger.evaluation_interval_data_points, trigger.warmup_intervals or 0
    policy = trigger.warmup_policy
    assert points is not None
    ref, cur = strategy.amount_ref, strategy.amount_cur
    current, reservoir = deque[float](maxlen=cur), deque[float](maxlen=max(0, ref - cur))
    exclusive, reference = deque[float](maxlen=ref), deque[float](maxlen=ref)
    rows: list[tuple[int, float | None, bool]] = []
    since_policy = 0
    for seen, value in enumerate(values, 1):
        if len(current) == cur:
            reservoir.append(current[0])
        current.append(value)
        exclusive.append(value)
        if seen % points:
            continue
        distance = abs(float(np.mean(reference)) - float(np.mean(current))) if reference else None
        number = len(rows)
        fires = number == 0 or (distance is not None and distance >= critical)
        if 0 <= number <= warmup and isinstance(policy, DataAmountTrigger):
            since_policy += points
            fires = number == 0 or since_policy >= policy.num_samples
            since_policy %= policy.num_samples
        rows.append((seen, distance, fires))
        if fires or number <= warmup:
            if strategy.allow_overlap:
                reference.extend(exclusive)
            else:
                reference.extend([*reservoir, *current])
                reservoir.clear()
                current.clear()
            exclusive.clear()
    return rows


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-4, 4), max_size=70),
    points=st.integers(1, 12),
    ref=st.integers(1, 20),
    cur=st.integers(1, 20),
    overlap=st.booleans(),
    warmup=st.none() | st.tuples(st.integers(0, 3), st.integers(1, 25)),
    cuts=st.lists(st.integers(0, 70), max_size=6),
)
def test_it_equals_the_definition_in_pieces_of_any_size(
    values: list[int],
    points: int,
    ref: int,
    cur: int,
    overlap: bool,
    warmup: tuple[int, int] | None,
    cuts: list[int],
) -> None:
    keys: dict[str, Any] = {}
    if warmup is not None:
        keys = {"warmup_intervals": warmup[0], "warmup_policy": DataAmountTrigger(num_samples=warmup[1])}
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=points,
        windowing_strategy=AmountWindowingStrategy(amount_ref=ref, amount_cur=cur, allow_overlap=overlap),
        metrics={"gap": above(1.51)},
        features="columns",
        **keys,
    )
    observer = ArrayObserver(np.array(values, dtype=np.float32)[:, None])
    times = list(range(len(values)))
    fired, evaluations, state = run(trigger, times, observer)
    rows = slow_run([float(value) for value in values], trigger, 1.51)
    assert [firing.position for firing in fired] == [seen for seen, _, fires in rows if fires]
    assert [evaluation.decision for evaluation in evaluations] == [fires for _, _, fires in rows]
    measured = [evaluation.findings[0].statistic for evaluation in evaluations]
    assert measured == [distance if distance is None else pytest.approx(distance) for _, distance, _ in rows]
    for through_json in (False, True):
        again, evaluations_again, state_again = run(trigger, times, observer, cuts, through_json)
        assert (again, evaluations_again) == (fired, evaluations)
        assert state_again.model_dump_json() == state.model_dump_json()


def test_a_shift_is_found_and_the_new_model_is_compared_with_new_data() -> None:
    """Windows of 200, evaluated every 100, a shift by 2 at 1,050: found at 1,100, half a window after it."""
    observer = ArrayObserver(shifting(2_000, 1_050, 2.0))
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=100,
        windowing_strategy=AmountWindowingStrategy(amount_ref=200, amount_cur=200, allow_overlap=True),
        metrics={"gap": above(0.4)},
    )
    fired, evaluations, _ = run(trigger, list(range(2_000)), observer)
    assert [firing.position for firing in fired] == [100, 1_100, 1_200, 1_300]
    assert fired[0].reason == "there is no model yet"
    assert fired[1].reason.startswith("drift: gap 0.4")
    assert fired[1].reason.endswith("> 0.4; 1 of 1 votes")
    assert evaluations[1].reason.startswith("no drift: gap ")
    assert evaluations[1].reason.endswith("< 0.4; 0 of 1 votes")


def test_every_sample_is_shown_to_a_model_once_even_if_few_answers_are_remembered() -> None:
    observer = ArrayObserver(shifting(4_000, 2_050, 2.0), remember=4)
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=100,
        windowing_strategy=AmountWindowingStrategy(amount_ref=600, amount_cur=300, allow_overlap=True),
        sample_size=150,
        metrics={"gap": above(0.8), "again": above(0.8)},
    )
    fired, _, _ = run(trigger, list(range(4_000)), observer)
    assert len(fired) >= 2
    assert set(observer.calls) == {"embeddings"}
    assert max(counts.max() for counts in observer.embedded.values()) == 1
    assert len(observer.calls) == 2 * (40 - 1)  # one for each window in every interval but the first


def test_samples_of_big_windows_are_embedded_sparingly() -> None:
    observer = ArrayObserver(np.zeros((20_000, 1)))
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=500,
        windowing_strategy=AmountWindowingStrategy(amount_ref=5_000, amount_cur=5_000, allow_overlap=True),
        sample_size=500,
        metrics={"gap": above(1.0)},
    )
    run(trigger, list(range(20_000)), observer)
    counts = observer.embedded["model 1"]
    assert counts.max() == 1
    assert counts.sum() < 0.25 * 20_000


def test_the_warm_up_calibrates() -> None:
    """Intervals of one sample; measured is the distance of each from the one before it, all through the warm-up."""
    values = np.array([0, 1, 3, 6, 10, 12, 15.5, 16], dtype=np.float32)[:, None]
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=1,
        warmup_intervals=4,
        warmup_policy=DataAmountTrigger(num_samples=3),
        windowing_strategy=AmountWindowingStrategy(amount_ref=1, amount_cur=1),
        metrics={"gap": Gap(decision_criterion=DynamicQuantileThresholdCriterion(window_size=3, quantile=0.0))},
    )
    fired, evaluations, state = run(trigger, list(range(8)), ArrayObserver(values))
    findings = [evaluation.findings[0] for evaluation in evaluations]
    assert findings[0] == Finding("gap", note="there is no model yet")
    assert [finding.statistic for finding in findings[1:]] == [1, 2, 3, 4, 2, 5.5, 0.5]
    assert [finding.threshold for finding in findings[1:]] == [None, 1, 2, 3, 4, 4, 5.5]
    assert [finding.note for finding in findings[1:]] == [
        "warm-up; no earlier measurement to compare with",
        "warm-up",
        "warm-up",
        "warm-up",
        "",
        "",
        "",
    ]
    # the first interval; the warm-up policy after 3 samples; then 2 > 4 no, 5.5 > 4 (from 10, the last training's)
    assert [firing.position for firing in fired] == [1, 3, 7]
    assert fired[-1].reason == "drift: gap 5.5 > 4; 1 of 1 votes"
    assert state.measured == {"gap": (2, 5.5, 0.5)}


def test_without_an_earlier_measurement_nothing_fires() -> None:
    """The whole warm-up goes by without a measurement: its reference is deleted. Then 1; 2 >= 1.05 (a training on 3);
    1 >= 1.575 not; 2 >= 1.4."""
    observer = ArrayObserver(np.arange(6)[:, None], gone={0})
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=1,
        warmup_intervals=1,
        warmup_policy=DataAmountTrigger(num_samples=1),
        windowing_strategy=AmountWindowingStrategy(amount_ref=1, amount_cur=1),
        metrics={"gap": Gap(decision_criterion=DynamicRollingAverageThresholdCriterion())},
    )
    fired, evaluations, _ = run(trigger, list(range(6)), observer)
    assert [firing.position for firing in fired] == [1, 2, 4, 6]
    assert evaluations[1].findings[0].note == "all samples of the reference window are deleted"
    assert evaluations[2].reason == "no drift: gap 1 (undecided); 0 of 1 votes"
    assert evaluations[2].findings[0].note == "no earlier measurement to compare with"


def test_windows_move_after_any_training() -> None:
    """One that an ensemble fired for, too; and samples that came since are not moved by it twice."""
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=2,
        windowing_strategy=AmountWindowingStrategy(amount_ref=4, amount_cur=2),
        metrics={"gap": above(100)},
        features="columns",
    )
    _, _, state = run(trigger, [0] * 5, ArrayObserver(np.zeros((9, 1))))
    assert state.windows.reference.keys.tolist() == [0, 1]
    state = trigger.after_training(state, TrainingOutcome(2, None, 0, 0.0))
    assert state.windows.reference.keys.tolist() == [0, 1, 2, 3]
    again = trigger.after_training(state, TrainingOutcome(3, "m", 1, 1.0))
    assert again.windows.model_dump() == state.windows.model_dump()
    assert state.keys.tolist() == [4]


def test_windows_of_time() -> None:
    trigger = DataDriftTrigger(
        evaluation_interval="10s",
        windowing_strategy=TimeWindowingStrategy(limit_ref="20s", limit_cur="10s"),
        metrics={"gap": above(0.5)},
        features="columns",
    )
    times = [0, 5, 10, 15, 20, 25, 30, 35, 40]
    fired, evaluations, _ = run(trigger, times, ArrayObserver(np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])[:, None]))
    assert [firing.position for firing in fired] == [2, 6, 8]
    # nothing; 10, 15 against 0, 5; 15, 20, 25 against the same; 30, 35 against 5 … 25
    expected = [None, 0.0, pytest.approx(2 / 3), pytest.approx(3 / 5)]
    assert [evaluation.findings[0].statistic for evaluation in evaluations] == expected


def test_what_cannot_be_compared_is_no_drift() -> None:
    observer = ArrayObserver(np.arange(20)[:, None], gone=set(range(8, 20)))
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=4,
        windowing_strategy=AmountWindowingStrategy(amount_ref=4, amount_cur=4),
        metrics={"gap": above(1e9), "broken": Broken(decision_criterion=ThresholdDecisionCriterion(threshold=0))},
        aggregation_strategy=AnyVote(),
        features=("x0",),
    )
    fired, evaluations, _ = run(trigger, [0] * 20, observer)
    assert len(fired) == 1
    assert evaluations[0].findings == (
        Finding("gap", note="the reference window is empty"),
        Finding("broken", note="the reference window is empty"),
    )
    assert evaluations[1].findings[1] == Finding("broken", note="the distance is nan")
    assert evaluations[1].reason == "no drift: gap 4 < 1e+09, broken (the distance is nan); 0 of 2 votes"
    assert evaluations[2].reason == "no drift: all samples of the current window are deleted"


def test_a_measurement_that_is_no_number_is_not_remembered() -> None:
    criterion = DynamicQuantileThresholdCriterion(window_size=3)
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=1,
        warmup_intervals=2,
        warmup_policy=DataAmountTrigger(num_samples=10),
        metrics={"broken": Broken(decision_criterion=criterion), "gap": Gap(decision_criterion=criterion)},
    )
    _, _, state = run(trigger, [0] * 4, ArrayObserver(np.zeros((4, 1))))
    assert state.measured == {"broken": (), "gap": (0, 0, 0)}


def test_a_hypothesis_test_is_asked_for_with_its_numbers() -> None:
    criterion = HypothesisTestCriterion(alpha=0.02, permutations=300, block_length=7)
    first, second = Gap(decision_criterion=criterion), Gap(decision_criterion=criterion, critical=9.0)
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=3,
        windowing_strategy=AmountWindowingStrategy(amount_ref=3, amount_cur=3),
        metrics={"first": first, "second": second},
        aggregation_strategy=AtLeastN(n=1),
    )
    observer = ArrayObserver(np.repeat([0.0, 0.5, 2.0, 2.0], 3)[:, None])
    fired, evaluations, _ = run(trigger, [0] * 12, observer)
    assert [firing.position for firing in fired] == [3, 9]
    assert fired[1].reason == "drift: first 2 > 1 (p = 0.01), second 2 < 9 (p = 0.4); 1 of 2 votes"
    assert evaluations[2].findings == (
        Finding("first", 2.0, 1.0, 0.01, decision=True, note="blocks of 3"),
        Finding("second", 2.0, 9.0, 0.4, decision=False, note="blocks of 3"),
    )
    assert [answer[:3] for answer in first.answers] == [(0.02, 300, 7)] * 3
    assert first.answers == second.answers  # random numbers do not depend on other metrics
    assert len({answer[3] for answer in first.answers}) == 3  # but on the evaluation


def test_columns_are_asked_for_by_name() -> None:
    def drifts(features: Any) -> bool:
        rows = np.zeros((4, 3))
        rows[2:, 1] = 5
        trigger = DataDriftTrigger(
            evaluation_interval_data_points=2,
            windowing_strategy=AmountWindowingStrategy(amount_ref=2, amount_cur=2),
            metrics={"gap": above(1)},
            features=features,
        )
        assert not trigger.needs_model
        return len(run(trigger, [0] * 4, ArrayObserver(rows))[0]) == 2

    assert drifts("columns")
    assert drifts(["x2", "x1"])
    assert not drifts(["x0", "x2"])
    with pytest.raises(InvalidInputError, match="no column is named 'x9'"):
        drifts(["x9"])


def test_embeddings_are_those_of_the_newest_model() -> None:
    asked: list[str] = []

    def embed(model: str, rows: Features) -> Features:
        asked.append(model)
        return rows

    trigger = DataDriftTrigger(
        evaluation_interval_data_points=1,
        windowing_strategy=AmountWindowingStrategy(amount_ref=1, amount_cur=1),
        metrics={"gap": above(1)},
    )
    assert trigger.needs_model
    run(trigger, [0] * 5, ArrayObserver(np.array([0, 0, 2, 2, 4])[:, None], embed=embed))
    assert asked == ["model 1"] * 4 + ["model 2"] * 4


def test_a_first_firing_that_guards_hold_back_comes_later() -> None:
    """Else there would never be a reference to compare with."""
    trigger = DataDriftTrigger(
        evaluation_interval_data_points=100,
        windowing_strategy=AmountWindowingStrategy(amount_ref=100, amount_cur=100),
        metrics={"gap": above(1)},
        features="columns",
        guards=Guards(minimum_samples=250),
    )
    told = fed(guarded(trigger), [stream(list(range(1_000)))], ArrayObserver(shifting(1_000, 600, 5.0)))
    assert told.seen == [300, 700]
