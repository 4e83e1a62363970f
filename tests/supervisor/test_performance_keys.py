"""Which keys the performance trigger accepts, and what it says of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modyn.core.config.published import Reading
from modyn.core.plugins.triggers import TRIGGERS
from modyn.supervisor.triggers.performance import PerformanceTrigger

LOW = {"low": {"id": "StaticPerformanceThresholdCriterion", "metric": "Accuracy", "metric_threshold": 0.5}}


def make(**keys: Any) -> PerformanceTrigger:
    return PerformanceTrigger.model_validate({"decision_criteria": LOW, **keys})


def test_defaults_need_nothing() -> None:
    trigger = TRIGGERS.parse({"id": "PerformanceTrigger"})
    assert isinstance(trigger, PerformanceTrigger)
    assert [criterion.plugin_name for criterion in trigger.decision_criteria.values()] == ["ADWIN"]
    assert [metric.result_name for metric in trigger.scored_metrics] == ["Accuracy"]
    assert trigger.needs_model
    assert not trigger.needs_costs
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


def test_the_published_keys() -> None:
    reading = Reading()
    trigger = TRIGGERS.parse(
        {
            "id": "PerformanceTrigger",
            "evaluation_interval_data_points": 500,
            "data_density_window_size": 20,
            "performance_triggers_window_size": 10,
            "mode": "hindsight",
            "forecasting_method": "ridge_regression",
            "evaluation": {
                "device": "cpu",
                "label_transformer_function": None,
                "dataset": {
                    "dataset_id": "yearbook",
                    "bytes_parser_function": "def bytes_parser_function(data): return data",
                    "batch_size": 64,
                    "dataloader_workers": 1,
                    "metrics": [{"name": "Accuracy", "topn": 1}, {"name": "F1Score", "num_classes": 2}],
                },
            },
            "decision_criteria": {"f1": {**LOW["low"], "metric": "F1Score"}, "acc": LOW["low"]},
        },
        reading,
    )
    assert isinstance(trigger, PerformanceTrigger)
    assert [metric.result_name for metric in trigger.scored_metrics] == ["Accuracy", "F1-macro"]
    assert len(reading.notices) == 6
    assert any("device: has no effect: predictions are made where" in notice for notice in reading.notices)
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"decision_criteria": {}}, "at least 1"),
        ({"decision_criteria": {"low": {**LOW["low"], "metric": "Acuracy"}}}, "did you mean 'Accuracy'"),
        ({"decision_criteria": {"low": {**LOW["low"], "metric": "F1Score"}}}, "expected one of Accuracy"),
        ({"decision_criteria": {"a/b": LOW["low"]}}, "without '/'"),
        ({"metrics": []}, "at least 1"),
        ({"metrics": [{"name": "Accuracy"}] * 2}, "already reports 'Accuracy'"),
        (
            {"metrics": [{"name": "Accuracy"}], "evaluation": {"dataset": {"metrics": [{"name": "Accuracy"}]}}},
            "keep metrics",
        ),
        ({"mode": "foresight"}, "hindsight"),
        ({"forecasting_method": "arima"}, "rolling_average"),
        ({"label_delay": "soon"}, "expected a duration"),
        ({"label_delay": "2d", "label_timeout": "1d"}, "longer than label_delay"),
        (
            {"decision_criteria": {"q": {"id": "DynamicQuantilePerformanceThresholdCriterion", "metric": "Accuracy"}}},
            "warmup_intervals of at least 1",
        ),
    ],
)
def test_bad_input_is_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**keys)


def test_a_plugin_name_that_two_metrics_share_is_no_name() -> None:
    metrics = [{"name": "F1Score", "num_classes": 2}, {"name": "F1Score", "num_classes": 2, "average": "micro"}]
    with pytest.raises(ValidationError, match="expected one of F1-macro, F1-micro"):
        make(metrics=metrics, decision_criteria={"low": {**LOW["low"], "metric": "F1Score"}})
    make(metrics=metrics, decision_criteria={"low": {**LOW["low"], "metric": "F1-micro"}})
