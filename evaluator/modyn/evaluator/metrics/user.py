"""Metrics that are functions of the user."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from modyn.core.config.inline import is_reference
from modyn.core.errors import InternalError
from modyn.core.plugins.evaluation import METRICS, Metric, Outcomes

_NOT_IN_NAMES = "[]#"
"""Mark slices and classes in the names of scores."""


@METRICS.register("UserMetric")
class UserMetric(Metric):
    """A function of your own: `{name: "my_metrics:pinball"}`, or with `name: UserMetric` and `function`.

    It is called as `function(outcomes, **config)` with the outcomes of one window, and returns a number, or None where
    it is undefined. It runs in a job that never sees a model, and has no confidence intervals. A window on which it
    fails has no score, and everything else is scored.

    >>> metric = METRICS.parse({"name": "my_metrics:pinball", "config": {"quantile": 0.9}, "better": "lower"})
    >>> metric.plugin_name, metric.result_name, metric.greater_is_better
    ('UserMetric', 'pinball', False)
    """

    function: str = Field(description="module:attribute of the function; the name itself may say it instead.")
    config: dict[str, Any] = Field({}, description="Its further keyword arguments.")
    result: str | None = Field(
        None, min_length=1, description="What reports call it; by default the name of the function."
    )
    scores: bool = Field(
        False,
        description="Whether it looks at the model's raw outputs, which are then kept; with labels: numbers it always "
        "may.",
    )
    labels: Literal["classes", "numbers"] = Field(
        "classes", description="What it takes labels for: outcomes.labels or outcomes.targets."
    )
    better: Literal["higher", "lower"] = Field(
        "higher", description="Which values are better; comparisons need to know."
    )

    @field_validator("function")
    @classmethod
    def _check_function(cls, function: str) -> str:
        if not is_reference(function):
            raise ValueError("expected module:attribute, such as my_metrics:pinball")
        return function.strip()

    @field_validator("result")
    @classmethod
    def _check_result(cls, result: str | None) -> str | None:
        if result is not None and any(sign in result for sign in _NOT_IN_NAMES):
            raise ValueError("expected a name without '[', ']' and '#', which mark slices and classes")
        return result

    @property
    def labels_are(self) -> Literal["classes", "numbers"]:  # type: ignore[override]  # each metric has its own
        return self.labels

    @property
    def greater_is_better(self) -> bool:  # type: ignore[override]  # each metric has its own
        return self.better == "higher"

    @property
    def needs_scores(self) -> bool:
        return self.scores or self.labels == "numbers"

    @property
    def user_code(self) -> str:
        return self.function

    @property
    def result_name(self) -> str:
        return self.result or self.function.partition(":")[2]

    def score(self, outcomes: Outcomes) -> float | None:
        """Never called: the function runs in jobs only, see :mod:`modyn.evaluator.metric_code`."""
        raise InternalError(f"metric {self.function} is code of the user, which runs in jobs only")
