"""A fixed threshold."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from modyn.core.plugins.drift import DECISION_CRITERIA, Decision, DecisionCriterion


@DECISION_CRITERIA.register("ThresholdDecisionCriterion")
class ThresholdDecisionCriterion(DecisionCriterion):
    """Compares every measurement m with a fixed number: m >= threshold for distances, m <= threshold for scores.

    Distances depend on the metric, on the data and on the size of the windows, so a good threshold has to be found by
    looking at measurements of quiet times;
    :class:`~modyn.supervisor.drift.criteria.hypothesis_test.HypothesisTestCriterion` needs none.

    >>> ThresholdDecisionCriterion(threshold=0.2).decide(0.2, (), higher_is_worse=True)
    Decision(decision=True, threshold=0.2, note='')
    """

    threshold: FiniteFloat = Field(description="From this distance on there is drift.")

    def decide(self, measured: float, earlier: tuple[float, ...], *, higher_is_worse: bool) -> Decision:
        reached = measured >= self.threshold if higher_is_worse else measured <= self.threshold
        return Decision(reached, self.threshold)
