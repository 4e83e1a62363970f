"""F1: the harmonic mean of precision and recall."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, Outcomes
from modyn.evaluator.metrics.classification import ClassificationMetric


@METRICS.register("F1Score")
class F1Score(ClassificationMetric):
    """2 TP / (2 TP + FP + FN), per class, combined by ``average``.

    ``macro`` is the plain mean over the classes that occur as a label or a prediction, ``weighted`` the mean
    weighted by how often a class occurs as a label, ``micro`` counts over all classes together (which for one
    label per sample is accuracy), ``binary`` is the score of class ``pos_label`` alone. Binary F1 is undefined
    where that class neither occurs nor is predicted. Values equal scikit-learn's ``f1_score`` with
    ``zero_division=nan``.

    >>> outcomes = Outcomes(labels=np.array([0, 1, 1, 1]), predictions=np.array([0, 1, 1, 0]))
    >>> F1Score(num_classes=2, average="binary").score(outcomes)
    0.8
    """

    num_classes: PositiveInt = Field(description="Labels and predictions lie in [0, num_classes).")
    average: Literal["macro", "micro", "weighted", "binary"] = Field("macro", description="How classes are combined.")
    pos_label: NonNegativeInt = Field(1, description="The class that ``average: binary`` scores.")

    @model_validator(mode="after")
    def _binary_has_two(self) -> F1Score:
        if self.average == "binary" and self.num_classes != 2:
            raise ValueError(
                f"average: binary needs num_classes: 2, not {self.num_classes}; use macro, micro or weighted"
            )
        if self.average == "binary" and self.pos_label >= self.num_classes:
            raise ValueError(f"pos_label {self.pos_label} is no class; expected 0 or 1")
        return self

    @property
    def result_name(self) -> str:
        return f"F1-binary-{self.pos_label}" if self.average == "binary" else f"F1-{self.average}"

    def score(self, outcomes: Outcomes) -> float | None:
        support = self._counts(outcomes.labels, "a label")
        predicted = self._counts(outcomes.predictions, "a prediction")
        right = self._counts(outcomes.labels[outcomes.labels == outcomes.predictions], "a label")
        if self.average == "micro":
            return float(right.sum() / len(outcomes))  # each miss is one false positive and one false negative
        occurring = support + predicted
        if self.average == "binary":
            total = int(occurring[self.pos_label])
            return 2.0 * int(right[self.pos_label]) / total if total else None
        present = occurring > 0
        per_class = 2.0 * right[present] / occurring[present]
        if self.average == "macro":
            return float(per_class.mean())
        return float(np.average(per_class, weights=support[present]))

    def _counts(self, classes: Int64Array, what: str) -> npt.NDArray[np.int64]:
        if len(classes) and (classes.min() < 0 or classes.max() >= self.num_classes):
            wrong = int(classes.min() if classes.min() < 0 else classes.max())
            raise InvalidInputError(
                f"metric F1Score, num_classes: {self.num_classes}: {what} is {wrong}; expected classes 0 to "
                f"{self.num_classes - 1}, so set num_classes to the number of classes of the data and the model"
            )
        return np.bincount(classes, minlength=self.num_classes).astype(np.int64, copy=False)
