"""The keys of a drift trigger."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modyn.core.plugins.drift import DRIFT_METRICS
from modyn.core.plugins.triggers import (
    TRIGGERS,
)
from modyn.supervisor.drift.aggregation import AtLeastN
from modyn.supervisor.drift.criteria import (
    DynamicQuantileThresholdCriterion,
)
from modyn.supervisor.drift.windows import TimeWindowingStrategy
from modyn.supervisor.triggers.drift import DataDriftTrigger
from tests.helpers.drifting import Gap, above

METRIC = {"gap": above(1)}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"metrics": {}}, "at least 1 item"),
        ({"metrics": METRIC, "features": []}, "features: the list is empty"),
        ({"metrics": METRIC, "features": "everything"}, "embeddings"),
        ({"metrics": METRIC, "sample_size": 0}, "greater than 0"),
        (
            {"metrics": METRIC, "aggregation_strategy": {"id": "AtLeastN", "n": 2}},
            "aggregation_strategy: n is 2, but there are only 1 metrics",
        ),
        (
            {"metrics": {"a": Gap(decision_criterion=DynamicQuantileThresholdCriterion())}},
            "criteria of a compare with earlier measurements.*warmup_intervals of at least 1",
        ),
        (
            {
                "metrics": {"a": Gap(decision_criterion=DynamicQuantileThresholdCriterion())},
                "warmup_intervals": 0,
                "warmup_policy": {"id": "DataAmountTrigger", "num_samples": 1},
            },
            "warmup_intervals of at least 1",
        ),
    ],
)
def test_wrong_keys_are_explained(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        DataDriftTrigger.model_validate(keys)


PUBLISHED = {
    "id": "DataDriftTrigger",
    "evaluation_interval_data_points": 100,
    "warmup_intervals": 10,
    "warmup_policy": {"id": "TimeTrigger", "every": "2d"},
    "windowing_strategy": {
        "id": "TimeWindowingStrategy",
        "allow_overlap": True,
        "limit_ref": "3d",
        "limit_cur": "1d",
    },
    "sample_size": 200,
    "metrics": {
        "mmd": {
            "id": "AlibiDetectMmdDriftMetric",
            "device": "cpu",
            "num_permutations": None,
            "decision_criterion": {
                "id": "DynamicQuantileThresholdCriterion",
                "window_size": 15,
                "quantile": 0.02,
            },
        },
        "ks": {
            "id": "AlibiDetectKSDriftMetric",
            "p_val": 0.05,
            "decision_criterion": {"id": "ThresholdDecisionCriterion", "threshold": 0.3},
        },
    },
    "aggregation_strategy": {"id": "AtLeastN", "n": 1},
}


def test_published_keys_are_accepted() -> None:
    trigger = TRIGGERS.parse(PUBLISHED)
    assert isinstance(trigger, DataDriftTrigger)
    assert trigger.windowing_strategy == TimeWindowingStrategy(allow_overlap=True, limit_ref="3d", limit_cur="1d")
    assert [metric.plugin_name for metric in trigger.metrics.values()] == ["MMD", "KolmogorovSmirnov"]
    assert trigger.aggregation_strategy == AtLeastN(n=1)
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


def test_its_schema_names_all_that_it_may_hold() -> None:
    properties = DataDriftTrigger.model_json_schema()["properties"]
    choices = properties["metrics"]["additionalProperties"]["oneOf"]
    named = {choice["title"] for choice in choices}
    assert named == set(DRIFT_METRICS.names())
    assert len(properties["windowing_strategy"]["oneOf"]) == 2
    assert len(properties["aggregation_strategy"]["oneOf"]) == 3
