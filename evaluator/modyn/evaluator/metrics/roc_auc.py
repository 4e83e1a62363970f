"""Area under the ROC curve."""

from __future__ import annotations

from modyn.core.plugins.evaluation import METRICS
from modyn.evaluator.metrics.ranking import RankingMetric, UInt64Array, area_under_roc


@METRICS.register("RocAuc")
class RocAuc(RankingMetric):
    """Probability that a sample of class 1 is scored above one of class 0, ties counting half.

    The score of a sample is the model's single output, or the difference of its two outputs (which orders samples
    as the softmax probability of class 1 does). With ``multi_class: ovr`` it is the mean over classes of the same of
    each class against all others, for any number of outputs. Undefined where only one class occurs, or a score is not
    a number; a class that does not occur, or alone, is left out of the mean. Values equal scikit-learn's
    ``roc_auc_score`` where all classes occur.

    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143 (1982).

    >>> import numpy as np
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> scores = np.array([[0.1], [0.4], [0.35], [0.8]], dtype=np.float32)
    >>> labels = np.array([0, 0, 1, 1])
    >>> RocAuc().score(Outcomes(labels=labels, predictions=labels, scores=scores))
    0.75
    """

    @property
    def _short_name(self) -> str:
        return "ROC-AUC"

    def _area(self, keys: UInt64Array) -> float | None:
        return area_under_roc(keys)
