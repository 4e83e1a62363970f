"""Share of right predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from modyn.core.arrow import Int64Array, slices
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, Outcomes
from modyn.evaluator.metrics.classification import ClassificationMetric

_CHUNK_ELEMENTS = 1 << 22
"""Scores compared at once, to bound memory."""

_LAST = np.iinfo(np.int64).max


@METRICS.register("Accuracy")
class Accuracy(ClassificationMetric):
    """Share of samples whose label is the predicted class, or among the ``topn`` best-scored classes.

    Of equally scored classes the one with the smaller number comes first, as with arg max. A label that is no
    class of the model is never right.

    >>> outcomes = Outcomes(labels=np.array([0, 1, 1, 2]), predictions=np.array([0, 1, 2, 2]))
    >>> Accuracy().score(outcomes)
    0.75
    """

    topn: PositiveInt = Field(1, description="How many of the best-scored classes count.")

    @property
    def needs_scores(self) -> bool:
        return self.topn > 1

    @property
    def result_name(self) -> str:
        return "Accuracy" if self.topn == 1 else f"Top-{self.topn}-Accuracy"

    def score(self, outcomes: Outcomes) -> float | None:
        return (self._right(outcomes) if self.topn == 1 else self._in_top(outcomes)) / len(outcomes)

    def _right(self, outcomes: Outcomes) -> int:
        return int(np.count_nonzero(outcomes.labels == outcomes.predictions))

    def _in_top(self, outcomes: Outcomes) -> int:
        scores = outcomes.scores
        if scores is None or scores.shape[1] < 2:
            raise InvalidInputError(
                f"metric Accuracy, topn: {self.topn} needs one score per class, but the model has a single output; "
                "use topn: 1"
            )
        rows = max(1, _CHUNK_ELEMENTS // scores.shape[1])
        return sum(
            int(np.count_nonzero(_rank_of_label(scores[part], outcomes.labels[part]) < self.topn))
            for part in slices(len(outcomes), rows)
        )


def _rank_of_label(scores: npt.NDArray[np.float32], labels: Int64Array) -> Int64Array:
    """How many classes come before the label, [n]; `_LAST` if it is not one of them."""
    num_classes = scores.shape[1]
    known = (labels >= 0) & (labels < num_classes)
    column = np.where(known, labels, 0)[:, None]
    own = np.take_along_axis(scores, column, axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(num_classes) < column))
    comparable = known & ~np.isnan(own[:, 0])
    return np.where(comparable, np.count_nonzero(before, axis=1), _LAST).astype(np.int64)
