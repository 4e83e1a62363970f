"""The contract every registered trigger keeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Observer, Step, Trigger
from tests.helpers.feeding import CUTS, TIMES, Feeder, Told, ascending, cut, fed, stream
from tests.helpers.observing import ArrayObserver


def array_observer() -> Observer:
    """Two classes and three columns that drift from one half to the other; models are right about two of three."""
    rng = np.random.default_rng(7)
    features = rng.normal(size=(64, 3)) + np.repeat([[0.0], [1.5]], 32, axis=0)
    labels = rng.integers(0, 2, 64)
    keys = np.arange(64)
    features[:, 2] = keys
    return ArrayObserver(
        features,
        labels,
        label_times=keys * 3,
        predict=lambda model, rows: np.where(rows[:, 2] % 3 == len(model) % 3, 0, 1).astype(np.int64),
    )


@dataclass(frozen=True)
class Example:
    """
    Attributes:
        config: the trigger's YAML keys but for its name.
        observe: makes the observer that it asks.
        times: event times of the streams that it is shown.
        ordered: its evaluations come in the same order, whatever the pieces.
    """

    config: dict[str, Any]
    observe: Callable[[], Observer] = array_observer
    times: st.SearchStrategy[list[int]] = TIMES
    ordered: bool = True


AMOUNT = {"id": "DataAmountTrigger", "num_samples": 5}
TIME = {"id": "TimeTrigger", "every": "25s"}
MINUTES = {"id": "ScheduleTrigger", "cron": "*/2 * * * *"}
GUARDS = {"cooldown": "40s", "minimum_samples": 3, "maximum_triggers": 2, "per": "3m"}
NESTED = {
    "id": "EnsembleTrigger",
    "subtriggers": {"time": TIME, "amount": {**AMOUNT, "num_samples": 7, "guards": GUARDS}},
    "ensemble_strategy": {"id": "All"},
}
DRIFT = {
    "id": "DataDriftTrigger",
    "evaluation_interval_data_points": 4,
    "metrics": {
        "mean": {"id": "MeanDistance", "decision_criterion": {"id": "ThresholdDecisionCriterion", "threshold": 1}}
    },
}
PERFORMANCE = {
    "id": "PerformanceTrigger",
    "evaluation_interval": "30s",
    "decision_criteria": {
        "low": {"id": "StaticPerformanceThresholdCriterion", "metric": "Accuracy", "metric_threshold": 0.6}
    },
}


def without_id(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != TRIGGERS.key}


EXAMPLES: dict[str, list[Example]] = {
    "DataAmountTrigger": [
        Example({"num_samples": 1}),
        Example({"num_samples": 7}),
        Example({"num_samples": 2, "guards": GUARDS}),
    ],
    "DataDriftTrigger": [
        Example(
            {
                "evaluation_interval_data_points": 6,
                "metrics": {
                    "mean": {"id": "MeanDistance", "decision_criterion": {"id": "HypothesisTestCriterion"}},
                    "mmd": {"id": "MMD", "decision_criterion": {"id": "ThresholdDecisionCriterion", "threshold": 0.1}},
                },
                "windowing_strategy": {"id": "AmountWindowingStrategy", "amount_ref": 12, "amount_cur": 6},
                "aggregation_strategy": {"id": "Any"},
            }
        ),
        Example(
            {
                "evaluation_interval": "20s",
                "warmup_intervals": 2,
                "warmup_policy": AMOUNT,
                "windowing_strategy": {"id": "TimeWindowingStrategy", "limit_ref": "1m", "limit_cur": "30s"},
                "sample_size": 4,
                "features": ["x1", "x0"],
                "metrics": {
                    "mean": {"id": "MeanDistance", "decision_criterion": {"id": "DynamicQuantileThresholdCriterion"}}
                },
                "guards": GUARDS,
            }
        ),
    ],
    "PerformanceTrigger": [
        Example({**without_id(PERFORMANCE), "guards": GUARDS}),
        Example(
            {
                "evaluation_interval_data_points": 5,
                "decision_criteria": {
                    "low": {"id": "DynamicQuantilePerformanceThresholdCriterion", "metric": "Accuracy"},
                    "rolling": {"id": "DynamicRollingAveragePerformanceThresholdCriterion", "metric": "Accuracy"},
                    "wrong": {
                        "id": "StaticNumberMisclassificationCriterion",
                        "avoidable_misclassification_threshold": 2,
                    },
                },
                "warmup_intervals": 2,
                "warmup_policy": AMOUNT,
            }
        ),
    ],
    "DataIncorporationLatencyCostTrigger": [
        Example({"evaluation_interval_data_points": 4, "incorporation_delay_per_training_second": 20}),
        Example(
            {
                "evaluation_interval": "20s",
                "incorporation_delay_per_training_second": 50,
                "cost_model": {"seconds_per_sample": 0.1, "fixed_seconds": 1},
            }
        ),
    ],
    "AvoidableMisclassificationCostTrigger": [
        Example(
            {
                "evaluation_interval_data_points": 4,
                "avoidable_misclassification_latency_per_training_second": 5,
                "expected_accuracy": 0.9,
                "warmup_intervals": 1,
                "warmup_policy": AMOUNT,
            }
        ),
    ],
    "TimeTrigger": [
        Example({"every": "10s"}),
        Example({"every": "1m", "start_timestamp": 3}),
        Example({"every": "7s", "start_timestamp": 10_000}),
        Example({"every": "10s", "guards": {"cooldown_wall": "45s"}}),
    ],
    "ScheduleTrigger": [
        Example({"cron": "* * * * *"}),
        Example({"cron": "*/3 * * * *", "timezone": "Asia/Kathmandu", "guards": {"minimum_samples": 4}}),
    ],
    "ManualTrigger": [Example({})],
    "EnsembleTrigger": [
        Example({"subtriggers": {"a": AMOUNT, "t": TIME, "s": MINUTES}, "ensemble_strategy": {"id": id}}, ordered=False)
        for id in ("Any", "All", "MajorityVote")
    ]
    + [
        Example(
            {
                "subtriggers": {"nested": NESTED, "s": MINUTES, "a": AMOUNT, "b": {**AMOUNT, "num_samples": 4}},
                "ensemble_strategy": {"id": "AtLeastN", "n": 2},
                "guards": {"minimum_samples": 6},
            },
            ordered=False,
        ),
        Example(
            {
                "subtriggers": {"drift": DRIFT, "time": TIME, "performance": PERFORMANCE},
                "ensemble_strategy": {"id": "MajorityVote"},
            },
            ordered=False,
        ),
    ],
}
"""At least one configuration per trigger; a new trigger adds its own."""

CASES = [
    pytest.param(name, example, id=f"{name}-{number}")
    for name in TRIGGERS.names()
    for number, example in enumerate(EXAMPLES.get(name, []))
]
every_trigger = pytest.mark.parametrize(("name", "example"), CASES)


def make(name: str, example: Example) -> Trigger:
    return TRIGGERS.parse({TRIGGERS.key: name, **example.config})


def drawn_stream(data: st.DataObject, example: Example) -> Arrivals:
    """Seen by event time, or by arrival."""
    times = data.draw(example.times, "event times")
    if not data.draw(st.booleans(), "by arrival"):
        return stream(sorted(times) if data.draw(st.booleans(), "sorted") else times)
    gaps = data.draw(st.lists(st.integers(0, 70), min_size=len(times), max_size=len(times)), "gaps of arrival")
    return stream(times, ascending(gaps).tolist())


def comparable(told: Told, example: Example) -> Told:
    return told if example.ordered else told.unordered()


def test_every_trigger_has_an_example() -> None:
    assert sorted(EXAMPLES) == TRIGGERS.names()


@every_trigger
@settings(max_examples=25, deadline=None)
@given(data=st.data(), cuts=CUTS)
def test_pieces_of_any_size_and_a_state_through_json_tell_the_same(
    name: str, example: Example, data: st.DataObject, cuts: list[int]
) -> None:
    trigger, arrivals = make(name, example), drawn_stream(data, example)
    whole = comparable(fed(trigger, [arrivals], example.observe()), example)
    in_pieces = fed(trigger, cut(arrivals, cuts), example.observe())
    assert comparable(in_pieces, example) == whole
    in_json = fed(trigger, cut(arrivals, cuts), example.observe(), through_json=True)
    assert comparable(in_json, example) == whole
    assert in_json == in_pieces


@every_trigger
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_one_sample_at_a_time_tells_the_same(name: str, example: Example, data: st.DataObject) -> None:
    trigger, arrivals = make(name, example), drawn_stream(data, example)
    singly = fed(trigger, cut(arrivals, range(len(arrivals))), example.observe())
    assert comparable(singly, example) == comparable(fed(trigger, [arrivals], example.observe()), example)


@every_trigger
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_calls_are_pure_and_firings_are_explained(name: str, example: Example, data: st.DataObject) -> None:
    arrivals = drawn_stream(data, example)
    told = fed(make(name, example), [arrivals], example.observe(), untouched=True)
    assert all(a < b for a, b in itertools.pairwise([0, *told.seen])), "every firing has new data"
    *of_firings, behind = told.evaluations
    for fired, evaluations in zip(told.firings, of_firings, strict=True):
        assert [evaluation.decision for evaluation in evaluations] == [False] * (len(evaluations) - 1) + [True]
        assert evaluations[-1].reason == fired.reason
    assert not any(evaluation.decision for evaluation in behind)
    for evaluation in itertools.chain(*told.evaluations):
        assert evaluation.num_samples > 0
        assert evaluation.first_timestamp <= evaluation.last_timestamp
        assert evaluation.reason


@every_trigger
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_ticks_hand_over_what_the_next_sample_would_have(name: str, example: Example, data: st.DataObject) -> None:
    trigger = make(name, example)
    times = data.draw(example.times, "event times")
    gaps = data.draw(st.lists(st.integers(0, 200), min_size=len(times), max_size=len(times)), "gaps of arrival")
    arrivals = stream(times, ascending(gaps).tolist())
    live = Feeder(trigger, example.observe(), untouched=True)
    for position, clock in enumerate(arrivals.clock):
        live.tick_until(int(clock))
        live.feed(arrivals.slice(position, position + 1))
    assert live.told.seen == fed(trigger, [arrivals], example.observe()).seen


@every_trigger
def test_configuration_survives_dump_and_parse(name: str, example: Example) -> None:
    trigger = make(name, example)
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


@every_trigger
def test_no_data_no_firing(name: str, example: Example) -> None:
    trigger = make(name, example)
    state = trigger.initial_state()
    assert trigger.next_firing(state, stream([]), example.observe()) == Step(state)
    assert trigger.next_tick(state) is None
