"""A fixed score to stay above."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from modyn.core.plugins.drift import DecisionCriterion
from modyn.core.plugins.performance import PERFORMANCE_CRITERIA
from modyn.supervisor.drift.criteria import ThresholdDecisionCriterion
from modyn.supervisor.performance.criteria.scores import ScoreCriterion


@PERFORMANCE_CRITERIA.register("StaticPerformanceThresholdCriterion")
class StaticPerformanceThresholdCriterion(ScoreCriterion):
    """Fires when the metric is at or below ``metric_threshold``. A model that never gets above it is retrained at every
    evaluation.

    >>> from modyn.core.plugins.performance import Measured
    >>> criterion = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.8)
    >>> criterion.judge(criterion.initial_state(), Measured({"Accuracy": 0.79}, errors=None)).decision
    True
    """

    metric_threshold: FiniteFloat = Field(0.0, description="The score at or below which it fires.")

    @property
    def rule(self) -> DecisionCriterion:
        return ThresholdDecisionCriterion(threshold=self.metric_threshold)
