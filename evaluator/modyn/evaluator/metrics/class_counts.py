"""How often each class occurs, is predicted, and is right: what F1, precision and recall follow from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array, Outcomes
from modyn.evaluator.metrics.classification import DecomposableClassificationMetric
from modyn.evaluator.sums import count_stretches, ratio, sum_stretches

_DENSE_CLASSES = 4096
"""Up to so many, classes are numbered by their distance from the smallest; others are looked up."""

_PAIRED_CLASSES = 12
"""Up to so many, pairs of label and prediction are counted, which takes one pass instead of three."""


def class_columns(*classes: Int64Array) -> tuple[list[Int64Array], Int64Array]:
    """Columns for the classes that occur in some arrays.

    >>> class_columns(np.array([7, 5]), np.array([5, 5]))
    ([array([2, 0]), array([0, 0])], array([5, 6, 7]))

    Returns:
        The arrays with each class replaced by its column, int64, and the class of each column, int64 [columns],
        ascending. Classes between two that occur may have a column too.
    """
    filled = [values for values in classes if len(values)]
    if not filled:
        return list(classes), np.empty(0, dtype=np.int64)
    lowest, highest = min(int(values.min()) for values in filled), max(int(values.max()) for values in filled)
    if highest - lowest < _DENSE_CLASSES:
        return [values - lowest if lowest else values for values in classes], np.arange(lowest, highest + 1)
    found = np.unique(np.concatenate([np.unique(values) for values in filled]))
    return [np.searchsorted(found, values).astype(np.int64, copy=False) for values in classes], found


class ClassCountMetric(DecomposableClassificationMetric):
    """A score per class from its counts, combined by ``average``."""

    num_classes: PositiveInt | None = Field(
        None,
        description="Labels and predictions lie in [0, num_classes), and it is an error if one does not; by default "
        "the classes are those that occur.",
    )
    average: Literal["macro", "micro", "weighted", "binary"] = Field("macro", description="How classes are combined.")
    pos_label: NonNegativeInt = Field(1, description="The class that ``average: binary`` scores.")
    per_class: bool = Field(False, description="Also report the score of each class that occurs.")

    @model_validator(mode="after")
    def _check_binary(self) -> ClassCountMetric:
        if self.average != "binary":
            return self
        if self.num_classes not in (None, 2):
            raise ValueError(
                f"average: binary needs num_classes: 2, not {self.num_classes}; use macro, micro or weighted"
            )
        if self.num_classes is not None and self.pos_label >= self.num_classes:
            raise ValueError(f"pos_label {self.pos_label} is no class; expected 0 or 1")
        if self.per_class:
            raise ValueError("average: binary scores one class; use macro, micro or weighted with per_class")
        return self

    @property
    @abstractmethod
    def _short_name(self) -> str:
        """The name without how classes are combined."""

    @abstractmethod
    def _of_counts(self, support: Float64Array, predicted: Float64Array, right: Float64Array) -> Float64Array:
        """The score where a class occurs ``support`` times and is predicted ``predicted`` times, ``right`` of them
        rightly; NaN where undefined."""

    @property
    def result_name(self) -> str:
        return f"{self._short_name}-{self.average}" + (f"-{self.pos_label}" if self.average == "binary" else "")

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        labels, predictions = outcomes.labels, outcomes.predictions
        self._check(labels, "a label")
        self._check(predictions, "a prediction")
        if self.average == "binary":
            own, said = labels == self.pos_label, predictions == self.pos_label
            return np.stack([sum_stretches(values, edges) for values in (own, said, own & said)], axis=1)
        (label_columns, predicted_columns), classes = class_columns(labels, predictions)
        support, predicted, right = _counts(label_columns, predicted_columns, edges, len(classes))
        parts = [support, predicted, right]
        if self.per_class:
            parts.append((support + predicted) * classes)
        return np.concatenate(parts, axis=1)

    def values(self, statistics: Float64Array) -> Float64Array:
        support, predicted, right = self._split(statistics)[:3]
        if self.average == "micro":
            # One label a sample: each miss is one false positive and one false negative.
            return ratio(right.sum(axis=-1), support.sum(axis=-1))
        of_classes = self._of_counts(support, predicted, right)
        if self.average == "binary":
            return of_classes[..., 0]
        defined = ~np.isnan(of_classes)
        of_classes = np.where(defined, of_classes, 0.0)
        plain = ratio(of_classes.sum(axis=-1), defined.sum(axis=-1))
        if self.average == "macro":
            return plain
        weights = np.where(defined, support, 0.0)
        total = weights.sum(axis=-1)
        return np.where(total > 0, ratio((of_classes * weights).sum(axis=-1), total), plain)

    def class_values(self, statistics: Float64Array) -> dict[int, float | None]:
        if not self.per_class:
            return {}
        support, predicted, right, class_sums = self._split(statistics)
        occurring = np.flatnonzero(support + predicted)
        of_classes = self._of_counts(support, predicted, right)
        classes = np.rint(class_sums[occurring] / (support + predicted)[occurring]).astype(np.int64)
        return optional_by_class(classes, of_classes[occurring])

    def _split(self, statistics: Float64Array) -> list[Float64Array]:
        """Support, predictions, right ones and, with ``per_class``, the sum of the classes that were counted: sums
        carry no names, but this one by the number of its parts is the class of the column."""
        return np.split(statistics, 4 if self.per_class else 3, axis=-1)

    def _check(self, classes: Int64Array, what: str) -> None:
        if self.num_classes is None or not len(classes):
            return
        if classes.min() < 0 or classes.max() >= self.num_classes:
            wrong = int(classes.min() if classes.min() < 0 else classes.max())
            raise InvalidInputError(
                f"metric {self.plugin_name}, num_classes: {self.num_classes}: {what} is {wrong}; expected classes 0 to "
                f"{self.num_classes - 1}, so set num_classes to the number of classes of the data and the model"
            )


def _counts(
    labels: Int64Array, predictions: Int64Array, edges: Int64Array, width: int
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """How often each column is a label, a prediction, and both, in each stretch; float64 [s, width] each."""
    if width <= _PAIRED_CLASSES:
        pairs = count_stretches(labels * width + predictions, edges, width * width).reshape(-1, width, width)
        return pairs.sum(axis=2), pairs.sum(axis=1), np.ascontiguousarray(pairs.diagonal(axis1=1, axis2=2))
    # What is wrong goes into a further column that nobody looks at.
    right = np.where(labels == predictions, labels, width)
    return (
        count_stretches(labels, edges, width),
        count_stretches(predictions, edges, width),
        count_stretches(right, edges, width + 1)[:, :width],
    )


def optional_by_class(classes: Int64Array, values: Float64Array) -> dict[int, float | None]:
    """Values by class, None for NaN."""
    return {
        label: None if np.isnan(value) else value
        for label, value in zip(classes.tolist(), values.tolist(), strict=True)
    }
