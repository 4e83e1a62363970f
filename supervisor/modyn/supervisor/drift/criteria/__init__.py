"""What counts as drift: one import line for each criterion."""

from modyn.supervisor.drift.criteria.hypothesis_test import HypothesisTestCriterion
from modyn.supervisor.drift.criteria.quantile import DynamicQuantileThresholdCriterion
from modyn.supervisor.drift.criteria.rolling_average import DynamicRollingAverageThresholdCriterion
from modyn.supervisor.drift.criteria.threshold import ThresholdDecisionCriterion

__all__ = [
    "DynamicQuantileThresholdCriterion",
    "DynamicRollingAverageThresholdCriterion",
    "HypothesisTestCriterion",
    "ThresholdDecisionCriterion",
]
