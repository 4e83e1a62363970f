"""Performance criteria on sequences worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modyn.core.plugins.performance import (
    PERFORMANCE_CRITERIA,
    Judgement,
    Measured,
    Outlook,
    PerformanceCriterion,
)
from modyn.supervisor.performance.criteria import (
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
)

EXAMPLES: dict[str, dict[str, Any]] = {
    "ADWIN": {"delta": 0.3, "clock": 2},
    "DDM": {"warm_start": 2},
    "DynamicQuantilePerformanceThresholdCriterion": {"metric": "Accuracy", "window_size": 3},
    "DynamicRollingAveragePerformanceThresholdCriterion": {"metric": "Accuracy", "window_size": 3},
    "PageHinkley": {"threshold": 1.0, "min_instances": 2},
    "StaticNumberAvoidableMisclassificationCriterion": {"avoidable_misclassification_threshold": 4},
    "StaticPerformanceThresholdCriterion": {"metric": "Accuracy", "metric_threshold": 0.5},
}
"""One configuration per criterion; a new criterion adds its own."""


def wrong(number: int, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.arange(size) < number


def judge_all(criterion: PerformanceCriterion, stream: list[Measured]) -> list[Judgement]:
    state, said = criterion.initial_state(), []
    for measured in stream:
        said.append(criterion.judge(state, measured))
        state = criterion.state_type.model_validate_json(said[-1].state.model_dump_json())
        assert state == said[-1].state
    return said


def accuracies(*values: float | None) -> list[Measured]:
    return [Measured({"Accuracy": value}, wrong(0, 0)) for value in values]


def decisions(said: list[Judgement]) -> list[bool]:
    return [judgement.decision for judgement in said]


@pytest.mark.parametrize("name", PERFORMANCE_CRITERIA.names())
def test_the_contract_of_every_criterion(name: str) -> None:
    criterion = PERFORMANCE_CRITERIA.parse({"id": name, **EXAMPLES[name]})
    assert PERFORMANCE_CRITERIA.parse(PERFORMANCE_CRITERIA.dump(criterion)) == criterion
    rng = np.random.default_rng(0)
    stream = [Measured({"Accuracy": value}, rng.random(9) > value, 0.9) for value in [0.9] * 10 + [0.2] * 10]
    assert any(decisions(judge_all(criterion, stream)))
    assert judge_all(criterion, stream) == judge_all(criterion, stream)


def test_a_static_threshold_fires_at_or_below_it() -> None:
    criterion = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.8)
    said = judge_all(criterion, accuracies(0.81, 0.8, 0.79, None))
    assert decisions(said) == [False, True, True, False]
    assert said[1][2:] == (0.8, 0.8, "")
    assert said[3].note == "Accuracy is undefined on these samples"


def test_quantiles_of_earlier_values() -> None:
    criterion = DynamicQuantilePerformanceThresholdCriterion(metric="Accuracy", window_size=3, quantile=0.25)
    said = judge_all(criterion, accuracies(0.9, 0.8, 0.7, 0.75, 0.76, None, 0.74))
    # W            quantile at 1/4 (between sorted values 0 and 1 at (n - 1) / 4)
    # -            nothing
    # .9           .9                          .8 < .9
    # .8 .9        .8 + .1 · 1/4 = .825        .7 < .825
    # .7 .8 .9     .7 + .1 · 1/2 = .75         .75 is not below
    # .7 .75 .8    .7 + .05 · 1/2 = .725       .76 is not
    # .7 .75 .76   undefined: W stays; then .7 + .05 / 2 = .725; .74 is not
    assert decisions(said) == [False, True, True, False, False, False, False]
    assert said[0].note == "no earlier measurement to compare with"
    thresholds = [judgement.threshold for judgement in said if judgement.threshold is not None]
    assert thresholds == pytest.approx([0.9, 0.825, 0.75, 0.725, 0.725])
    assert criterion.needs_calibration


def test_averages_of_earlier_values() -> None:
    values = accuracies(0.9, 0.8, 0.7, 0.6, 0.7)
    # W            average   relative 10 %: below   absolute 0.1: below
    # -
    # .9           .9        .81: .8 fires          .8: .8 fires
    # .9 .8        .85       .765: .7 fires         .75: .7 fires
    # .8 .7        .75       .675: .6 fires         .65: .6 fires
    # .7 .6        .65       .585: .7 does not      .55: .7 does not
    relative = DynamicRollingAveragePerformanceThresholdCriterion(metric="Accuracy", window_size=2, deviation=0.1)
    said = judge_all(relative, values)
    assert decisions(said) == [False, True, True, True, False]
    assert [judgement.threshold for judgement in said[1:]] == pytest.approx([0.81, 0.765, 0.675, 0.585])
    absolute = relative.model_copy(update={"absolute": True, "deviation": 0.099})
    said = judge_all(absolute, values)
    assert decisions(said) == [False, True, True, True, False]
    assert [judgement.threshold for judgement in said[1:]] == pytest.approx([0.801, 0.751, 0.651, 0.551])


def test_lookahead_fires_on_the_forecast() -> None:
    criterion = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.8)
    for ahead, fires in ((0.81, False), (0.8, True)):
        outlook = Outlook({"Accuracy": ahead}, accuracy=ahead, num_samples=10, seconds=1)
        said = criterion.judge(criterion.initial_state(), Measured({"Accuracy": 0.9}, wrong(0, 0), outlook=outlook))
        assert (said.decision, said.statistic) == (fires, 0.9)
        assert said.note == f"forecast of the next evaluation: {ahead}"


def counted(**options: Any) -> StaticNumberAvoidableMisclassificationCriterion:
    return StaticNumberAvoidableMisclassificationCriterion.model_validate(
        {"avoidable_misclassification_threshold": 10, **options}
    )


def test_avoidable_misclassifications_by_hand() -> None:
    # of 100 samples each, expected accuracy 0.9: 14 - 10 = 4; 5 - 10 < 0; 13 - 10 = 3; 13 - 10 = 3
    stream = [Measured({}, wrong(number, 100)) for number in (14, 5, 13, 13)]
    said = judge_all(counted(expected_accuracy=0.9), stream)
    assert [judgement.statistic for judgement in said] == [4, 4, 7, 10]
    assert decisions(said) == [False, False, False, True]
    said = judge_all(counted(expected_accuracy=0.9, allow_reduction=True), stream)
    assert [judgement.statistic for judgement in said] == [4, -1, 2, 5]


def test_expected_accuracy_is_forecast() -> None:
    # 30 of 100 wrong, forecasts .8 and .75: 30 - 20 = 10; 30 - 25 = 5
    stream = [Measured({}, wrong(30, 100), expected_accuracy=expected) for expected in (0.8, 0.75)]
    assert [judgement.statistic for judgement in judge_all(counted(), stream)] == [10, 15]


def test_what_lies_ahead_counts_once() -> None:
    # 14 - 10 = 4 and (0.9 - 0.84) · 100 = 6 to come: 10; then again 4: 8 and 6 to come
    outlook = Outlook({}, accuracy=0.84, num_samples=100, seconds=1)
    criterion = counted(expected_accuracy=0.9)
    said = judge_all(criterion, [Measured({}, wrong(14, 100), outlook=outlook)] * 2)
    assert [judgement.statistic for judgement in said] == [10, 14]
    assert [judgement.state.avoidable for judgement in said] == [4, 8]


def test_the_count_starts_afresh_after_a_training() -> None:
    criterion = counted(expected_accuracy=1.0)
    state = criterion.judge(criterion.initial_state(), Measured({}, wrong(9, 9))).state
    assert state.avoidable == 9
    assert criterion.trained(state) == criterion.initial_state()


def test_no_label_of_the_newest_model() -> None:
    said = counted(expected_accuracy=1.0).judge(counted().initial_state(), Measured({}, wrong(0, 0)))
    assert not said.decision
    assert "no label" in said.note


def test_published_names() -> None:
    published = {"id": "StaticNumberMisclassificationCriterion", "avoidable_misclassification_threshold": 3}
    assert PERFORMANCE_CRITERIA.parse(published) == counted(avoidable_misclassification_threshold=3)
