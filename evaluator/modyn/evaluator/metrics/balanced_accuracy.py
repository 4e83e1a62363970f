"""Accuracy where every class counts the same."""

from __future__ import annotations

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import METRICS, Float64Array, Outcomes
from modyn.evaluator.metrics.class_counts import class_columns
from modyn.evaluator.metrics.classification import DecomposableClassificationMetric
from modyn.evaluator.sums import count_stretches, ratio


@METRICS.register("BalancedAccuracy")
class BalancedAccuracy(DecomposableClassificationMetric):
    """Mean over the classes that occur as a label of the share of their samples that are predicted rightly.

    Values equal scikit-learn's ``balanced_accuracy_score``.

    >>> outcomes = Outcomes(labels=np.array([0, 1, 1]), predictions=np.array([0, 1, 0]))
    >>> BalancedAccuracy().score(outcomes)
    0.75
    """

    @property
    def result_name(self) -> str:
        return "Balanced-Accuracy"

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        (columns,), classes = class_columns(outcomes.labels)
        width = len(classes)
        right = np.where(outcomes.labels == outcomes.predictions, columns, width)
        return np.concatenate(
            [count_stretches(columns, edges, width), count_stretches(right, edges, width + 1)[:, :width]], axis=1
        )

    def values(self, statistics: Float64Array) -> Float64Array:
        support, right = np.split(statistics, 2, axis=-1)
        occurring = support > 0
        shares = np.where(occurring, right / np.where(occurring, support, 1.0), 0.0)
        return ratio(shares.sum(axis=-1), occurring.sum(axis=-1))
