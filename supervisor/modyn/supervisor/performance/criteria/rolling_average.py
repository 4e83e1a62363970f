"""A score well below the average of the last ones."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import DecisionCriterion
from modyn.core.plugins.performance import PERFORMANCE_CRITERIA
from modyn.supervisor.drift.criteria import DynamicRollingAverageThresholdCriterion
from modyn.supervisor.performance.criteria.scores import ScoreCriterion


@PERFORMANCE_CRITERIA.register("DynamicRollingAveragePerformanceThresholdCriterion")
class DynamicRollingAveragePerformanceThresholdCriterion(ScoreCriterion):
    """Fires when the metric is at least a margin below the average a of its last ``window_size`` values: ``deviation``
    if ``absolute``, else ``deviation * a``.

    The value joins the window afterwards, also during the warm-up; trainings do not clear it. While it is empty nothing
    is decided.

    >>> from modyn.core.plugins.performance import Measured
    >>> criterion = DynamicRollingAveragePerformanceThresholdCriterion(metric="Accuracy", deviation=0.1)
    >>> state = criterion.initial_state()
    >>> for accuracy in (0.9, 0.7, 0.71):
    ...     state, decision, _, threshold, _ = criterion.judge(state, Measured({"Accuracy": accuracy}, errors=None))
    >>> decision, round(threshold, 6)
    (True, 0.72)
    """

    window_size: PositiveInt = Field(10, description="How many of the last values are averaged.")
    deviation: float = Field(
        0.05, ge=0, allow_inf_nan=False, description="How far below the average the metric has to be."
    )
    absolute: bool = Field(False, description="Whether `deviation` is a distance, not a share of the average.")

    @property
    def rule(self) -> DecisionCriterion:
        return DynamicRollingAverageThresholdCriterion(
            window_size=self.window_size, deviation=self.deviation, absolute=self.absolute
        )
