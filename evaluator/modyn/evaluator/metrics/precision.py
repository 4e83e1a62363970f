"""Precision: how far a predicted class can be relied on."""

from __future__ import annotations

from modyn.core.plugins.evaluation import METRICS, Float64Array
from modyn.evaluator.metrics.class_counts import ClassCountMetric
from modyn.evaluator.sums import ratio


@METRICS.register("Precision")
class Precision(ClassCountMetric):
    """TP / (TP + FP): the share of the predictions of a class that are right, combined by ``average``.

    ``macro`` is the plain mean over the classes that are predicted, ``weighted`` their mean weighted by how often each
    occurs as a label (the plain mean where none does), ``micro`` counts over all classes together (which for one label
    per sample is accuracy), ``binary`` is the precision of class ``pos_label`` alone, undefined where it is never
    predicted. Values equal scikit-learn's ``precision_score`` with ``zero_division=nan``.

    >>> import numpy as np
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> outcomes = Outcomes(labels=np.array([0, 1, 1, 1]), predictions=np.array([0, 1, 1, 0]))
    >>> Precision().score(outcomes)
    0.75
    """

    @property
    def _short_name(self) -> str:
        return "Precision"

    def _of_counts(self, support: Float64Array, predicted: Float64Array, right: Float64Array) -> Float64Array:
        return ratio(right, predicted)
