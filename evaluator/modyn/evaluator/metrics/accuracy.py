"""Share of right predictions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from modyn.core.arrow import Int64Array, slices
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, Float64Array, Outcomes
from modyn.evaluator.metrics.class_counts import class_columns, optional_by_class
from modyn.evaluator.metrics.classification import DecomposableClassificationMetric
from modyn.evaluator.sums import count_stretches, ratio, sum_stretches

_CHUNK_ELEMENTS = 1 << 20
"""Scores compared at once, to bound memory."""

_LAST = np.iinfo(np.int64).max


@METRICS.register("Accuracy")
class Accuracy(DecomposableClassificationMetric):
    """Share of samples whose label is the predicted class, or among the ``topn`` best-scored classes.

    Of equally scored classes the one with the smaller number comes first, as with arg max. A label that is no
    class of the model is never right. The accuracy of a class is the share of its samples that are right. Values equal
    scikit-learn's ``accuracy_score`` and ``top_k_accuracy_score``.

    >>> outcomes = Outcomes(labels=np.array([0, 1, 1, 2]), predictions=np.array([0, 1, 2, 2]))
    >>> Accuracy().score(outcomes)
    0.75
    """

    is_mean: ClassVar[bool] = True

    topn: PositiveInt = Field(1, description="How many of the best-scored classes count.")
    per_class: bool = Field(False, description="Also report the accuracy of each class that occurs as a label.")

    @property
    def _takes_scores(self) -> bool:
        return self.topn > 1

    @property
    def result_name(self) -> str:
        return "Accuracy" if self.topn == 1 else f"Top-{self.topn}-Accuracy"

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        right = outcomes.labels == outcomes.predictions if self.topn == 1 else self._in_top(outcomes)
        sizes = np.diff(edges).astype(np.float64)
        whole = np.stack([sizes, sum_stretches(right, edges)], axis=1)
        if not self.per_class:
            return whole
        (columns,), classes = class_columns(outcomes.labels)
        support = count_stretches(columns, edges, len(classes))
        right_ones = count_stretches(np.where(right, columns, len(classes)), edges, len(classes) + 1)[:, :-1]
        return np.concatenate([whole, support, right_ones, support * classes], axis=1)

    def values(self, statistics: Float64Array) -> Float64Array:
        return ratio(statistics[..., 1], statistics[..., 0])

    def class_values(self, statistics: Float64Array) -> dict[int, float | None]:
        if not self.per_class:
            return {}
        support, right, class_sums = np.split(statistics[2:], 3)
        occurring = np.flatnonzero(support)
        classes = np.rint(class_sums[occurring] / support[occurring]).astype(np.int64)
        return optional_by_class(classes, right[occurring] / support[occurring])

    def _in_top(self, outcomes: Outcomes) -> npt.NDArray[np.bool_]:
        scores = outcomes.scores
        if scores is None or scores.shape[1] < 2:
            raise InvalidInputError(
                f"metric Accuracy, topn: {self.topn} needs one score per class, but the model has a single output; "
                "use topn: 1"
            )
        right = np.empty(len(outcomes), dtype=np.bool_)
        for part in slices(len(outcomes), max(1, _CHUNK_ELEMENTS // scores.shape[1])):
            right[part] = _rank_of_label(scores[part], outcomes.labels[part]) < self.topn
        return right


def _rank_of_label(scores: npt.NDArray[np.float32], labels: Int64Array) -> Int64Array:
    """How many classes come before the label, [n]; `_LAST` if it is not one of them."""
    num_classes = scores.shape[1]
    known = (labels >= 0) & (labels < num_classes)
    column = np.where(known, labels, 0)[:, None]
    own = np.take_along_axis(scores, column, axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(num_classes) < column))
    comparable = known & ~np.isnan(own[:, 0])
    return np.where(comparable, np.count_nonzero(before, axis=1), _LAST).astype(np.int64)
