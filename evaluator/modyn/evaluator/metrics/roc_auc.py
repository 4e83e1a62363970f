"""Area under the ROC curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, Outcomes
from modyn.evaluator.metrics.classification import ClassificationMetric


@METRICS.register("RocAuc")
class RocAuc(ClassificationMetric):
    """Probability that a sample of class 1 is scored above one of class 0, ties counting half.

    The score of a sample is the model's single output, or the difference of its two outputs (which orders samples
    as the softmax probability of class 1 does). Undefined where only one class occurs, or a score is not a number.

    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143 (1982).

    >>> scores = np.array([[0.1], [0.4], [0.35], [0.8]], dtype=np.float32)
    >>> labels = np.array([0, 0, 1, 1])
    >>> RocAuc().score(Outcomes(labels=labels, predictions=labels, scores=scores))
    0.75
    """

    @property
    def needs_scores(self) -> bool:
        return True

    @property
    def result_name(self) -> str:
        return "ROC-AUC"

    def score(self, outcomes: Outcomes) -> float | None:
        positive = self._positive(outcomes.labels)
        ranks = _average_ranks(self._margin(outcomes.scores))
        num_positive = int(np.count_nonzero(positive))
        num_negative = len(outcomes) - num_positive
        if ranks is None or num_positive == 0 or num_negative == 0:
            return None
        above = float(ranks[positive].sum()) - num_positive * (num_positive + 1) / 2
        return above / (num_positive * num_negative)

    def _positive(self, labels: Int64Array) -> npt.NDArray[np.bool_]:
        if len(labels) and (labels.min() < 0 or labels.max() > 1):
            wrong = int(labels.min() if labels.min() < 0 else labels.max())
            raise InvalidInputError(f"metric RocAuc: a label is {wrong}; expected only 0 and 1, so use another metric")
        positive: npt.NDArray[np.bool_] = labels == 1
        return positive

    def _margin(self, scores: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float64]:
        if scores is None or scores.shape[1] > 2:
            outputs = "no scores" if scores is None else f"{scores.shape[1]} outputs"
            raise InvalidInputError(
                f"metric RocAuc: the model has {outputs}; expected one or two, so use another metric for many classes"
            )
        exact = scores.astype(np.float64)
        return exact[:, 0] if scores.shape[1] == 1 else exact[:, 1] - exact[:, 0]


def _average_ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Ranks from 1, equal values sharing their mean rank; None if a value is not a number."""
    if np.isnan(values).any():
        return None
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.concatenate((starts, [len(values)])))
    ranks = np.empty(len(values), dtype=np.float64)
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks
