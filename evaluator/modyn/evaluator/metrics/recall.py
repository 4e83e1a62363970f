"""Recall: how much of a class is found."""

from __future__ import annotations

from modyn.core.plugins.evaluation import METRICS, Float64Array
from modyn.evaluator.metrics.class_counts import ClassCountMetric
from modyn.evaluator.sums import ratio


@METRICS.register("Recall")
class Recall(ClassCountMetric):
    """TP / (TP + FN): the share of the samples of a class that are predicted as it, combined by ``average``.

    ``macro`` is the plain mean over the classes that occur as a label, ``weighted`` their mean weighted by how often
    each does (which is accuracy), ``micro`` counts over all classes together (accuracy, too), ``binary`` is the recall
    of class ``pos_label`` alone, undefined where it does not occur. Values equal scikit-learn's ``recall_score`` with
    ``zero_division=nan``.

    >>> import numpy as np
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> outcomes = Outcomes(labels=np.array([0, 1, 1]), predictions=np.array([0, 1, 0]))
    >>> Recall().score(outcomes)
    0.75
    """

    @property
    def _short_name(self) -> str:
        return "Recall"

    def _of_counts(self, support: Float64Array, predicted: Float64Array, right: Float64Array) -> Float64Array:
        return ratio(right, support)
