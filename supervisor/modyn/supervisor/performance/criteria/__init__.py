"""When known outcomes speak for a retraining: one import line for each criterion."""

from modyn.supervisor.performance.criteria.misclassifications import StaticNumberAvoidableMisclassificationCriterion
from modyn.supervisor.performance.criteria.quantile import DynamicQuantilePerformanceThresholdCriterion
from modyn.supervisor.performance.criteria.rolling_average import DynamicRollingAveragePerformanceThresholdCriterion
from modyn.supervisor.performance.criteria.threshold import StaticPerformanceThresholdCriterion
from modyn.supervisor.performance.detectors.adwin import ADWIN
from modyn.supervisor.performance.detectors.ddm import DDM
from modyn.supervisor.performance.detectors.page_hinkley import PageHinkley

__all__ = [
    "ADWIN",
    "DDM",
    "DynamicQuantilePerformanceThresholdCriterion",
    "DynamicRollingAveragePerformanceThresholdCriterion",
    "PageHinkley",
    "StaticNumberAvoidableMisclassificationCriterion",
    "StaticPerformanceThresholdCriterion",
]
