"""A threshold that is a quantile of the last measurements."""

from __future__ import annotations

import numpy as np
from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import DECISION_CRITERIA, Decision, DecisionCriterion


@DECISION_CRITERIA.register("DynamicQuantileThresholdCriterion", aliases=("DynamicPercentileThresholdCriterion",))
class DynamicQuantileThresholdCriterion(DecisionCriterion):
    """Compares a measurement m with the last ``window_size`` ones before it, W.

    Distances: m > quantile(W, 1 - quantile); scores: m < quantile(W, quantile). Between two values of W the quantile is
    interpolated linearly. W is not cleared by a training, and m joins it afterwards. While W is empty nothing is
    decided: that is what the warm-up is for. With few values in W, one quiet measurement in about ``1 + len(W)`` is the
    largest so far and counts as drift, whatever ``quantile`` says.

    >>> criterion = DynamicQuantileThresholdCriterion(window_size=4, quantile=0.5)
    >>> criterion.decide(3.1, (1.0, 2.0, 4.0, 5.0), higher_is_worse=True)
    Decision(decision=True, threshold=3.0, note='')
    >>> criterion.decide(3.1, (), higher_is_worse=True).note
    'no earlier measurement to compare with'
    """

    window_size: PositiveInt = Field(10, description="How many of the last measurements are looked at.")
    quantile: float = Field(
        0.05, ge=0, le=1, description="Share of the last measurements that are as far out as drift has to be."
    )

    @property
    def memory(self) -> int:
        return self.window_size

    def decide(self, measured: float, earlier: tuple[float, ...], *, higher_is_worse: bool) -> Decision:
        if not earlier:
            return Decision(decision=False, threshold=None, note="no earlier measurement to compare with")
        level = 1 - self.quantile if higher_is_worse else self.quantile
        threshold = float(np.quantile(np.array(earlier[-self.window_size :]), level))
        return Decision(measured > threshold if higher_is_worse else measured < threshold, threshold)
