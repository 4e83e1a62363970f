"""Area under the precision-recall curve."""

from __future__ import annotations

from modyn.core.plugins.evaluation import METRICS
from modyn.evaluator.metrics.ranking import RankingMetric, UInt64Array, average_precision


@METRICS.register("PrAuc")
class PrAuc(RankingMetric):
    """Average precision: Σ (R_n − R_{n−1}) P_n over the thresholds n, each a distinct score, in descending order, where
    P_n and R_n are the precision and the recall of class 1 there. Nothing is interpolated between them.

    The score of a sample is the model's single output, or the difference of its two outputs. With ``multi_class: ovr``
    it is the mean over the classes that occur of the same of each class against all others, class 0 of a model with one
    or two outputs included. Undefined where class 1 does not occur (scikit-learn says 0), or a score is not a number.
    Values equal scikit-learn's ``average_precision_score``.

    >>> import numpy as np
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> scores = np.array([[0.1], [0.4], [0.35], [0.8]], dtype=np.float32)
    >>> labels = np.array([0, 0, 1, 1])
    >>> round(PrAuc().score(Outcomes(labels=labels, predictions=labels, scores=scores)), 4)
    0.8333
    """

    @property
    def _short_name(self) -> str:
        return "PR-AUC"

    def _area(self, keys: UInt64Array) -> float | None:
        return average_precision(keys)
