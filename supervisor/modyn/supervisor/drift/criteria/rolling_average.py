"""A threshold around the average of the last measurements."""

from __future__ import annotations

import numpy as np
from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import DECISION_CRITERIA, Decision, DecisionCriterion


@DECISION_CRITERIA.register("DynamicRollingAverageThresholdCriterion")
class DynamicRollingAverageThresholdCriterion(DecisionCriterion):
    """Compares a measurement m with the average a of the last ``window_size`` ones before it.

    Distances: m >= a + margin; scores: m <= a - margin. The margin is ``deviation`` if ``absolute``, else
    ``deviation * |a|``: some distances, such as an unbiased MMD², are negative about as often as not when nothing
    changes, and an average below zero must not turn the margin around. A measurement no worse than the average never
    counts as drift. As long as there is no earlier measurement nothing is decided: that is what the warm-up is for.
    Trainings do not clear the memory.

    >>> criterion = DynamicRollingAverageThresholdCriterion(window_size=2, deviation=0.5)
    >>> criterion.decide(3.0, (9.0, 1.0, 3.0), higher_is_worse=True)
    Decision(decision=True, threshold=3.0, note='')
    """

    window_size: PositiveInt = Field(10, description="How many of the last measurements are averaged.")
    deviation: float = Field(
        0.05, ge=0, allow_inf_nan=False, description="How far from the average a measurement has to be."
    )
    absolute: bool = Field(False, description="Whether `deviation` is a distance, not a share of the average.")

    @property
    def memory(self) -> int:
        return self.window_size

    def decide(self, measured: float, earlier: tuple[float, ...], *, higher_is_worse: bool) -> Decision:
        if not earlier:
            return Decision(decision=False, threshold=None, note="no earlier measurement to compare with")
        average = float(np.mean(earlier[-self.window_size :]))
        margin = self.deviation if self.absolute else self.deviation * abs(average)
        if higher_is_worse:
            return Decision(average + margin <= measured > average, average + margin)
        return Decision(average - margin >= measured < average, average - margin)
