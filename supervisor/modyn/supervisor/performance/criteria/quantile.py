"""A score among the worst of the last ones."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import DecisionCriterion
from modyn.core.plugins.performance import PERFORMANCE_CRITERIA
from modyn.supervisor.drift.criteria import DynamicQuantileThresholdCriterion
from modyn.supervisor.performance.criteria.scores import ScoreCriterion


@PERFORMANCE_CRITERIA.register(
    "DynamicQuantilePerformanceThresholdCriterion", aliases=("DynamicPercentilePerformanceThresholdCriterion",)
)
class DynamicQuantilePerformanceThresholdCriterion(ScoreCriterion):
    """Fires when the metric is below the ``quantile`` of its last ``window_size`` values.

    The value joins the window afterwards, also during the warm-up; trainings do not clear it. While it is empty nothing
    is decided. About one quiet evaluation in ``1 + window_size`` is the worst so far and fires, whatever ``quantile``
    says.

    >>> from modyn.core.plugins.performance import Measured
    >>> criterion = DynamicQuantilePerformanceThresholdCriterion(metric="Accuracy", quantile=0.5)
    >>> state = criterion.initial_state()
    >>> for accuracy in (0.9, 0.8, 0.84):
    ...     state, decision, _, threshold, _ = criterion.judge(state, Measured({"Accuracy": accuracy}, errors=None))
    >>> decision, round(threshold, 6)
    (True, 0.85)
    """

    window_size: PositiveInt = Field(10, description="How many of the last values are looked at.")
    quantile: float = Field(0.05, ge=0, le=1, description="Share of the last values that may be worse.")

    @property
    def rule(self) -> DecisionCriterion:
        return DynamicQuantileThresholdCriterion(window_size=self.window_size, quantile=self.quantile)
