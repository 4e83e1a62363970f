"""F1: the harmonic mean of precision and recall."""

from __future__ import annotations

from modyn.core.plugins.evaluation import METRICS, Float64Array
from modyn.evaluator.metrics.class_counts import ClassCountMetric
from modyn.evaluator.sums import ratio


@METRICS.register("F1Score")
class F1Score(ClassCountMetric):
    """2 TP / (2 TP + FP + FN), per class, combined by ``average``.

    ``macro`` is the plain mean over the classes that occur as a label or a prediction, ``weighted`` the mean
    weighted by how often a class occurs as a label, ``micro`` counts over all classes together (which for one
    label per sample is accuracy), ``binary`` is the score of class ``pos_label`` alone. Binary F1 is undefined
    where that class neither occurs nor is predicted. Values equal scikit-learn's ``f1_score`` with
    ``zero_division=nan``.

    >>> import numpy as np
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> outcomes = Outcomes(labels=np.array([0, 1, 1, 1]), predictions=np.array([0, 1, 1, 0]))
    >>> F1Score(average="binary").score(outcomes)
    0.8
    >>> F1Score(per_class=True).score_classes(outcomes)
    {0: 0.6666666666666666, 1: 0.8}
    """

    @property
    def _short_name(self) -> str:
        return "F1"

    def _of_counts(self, support: Float64Array, predicted: Float64Array, right: Float64Array) -> Float64Array:
        return ratio(2.0 * right, support + predicted)
