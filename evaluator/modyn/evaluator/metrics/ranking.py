"""What ROC-AUC and PR-AUC share: samples ranked by score, ties and all, from a single sort of 64-bit integers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modyn.core.arrow import Int64Array, slices
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array, Outcomes
from modyn.evaluator.metrics.classification import ClassificationMetric

UInt64Array: TypeAlias = npt.NDArray[np.uint64]

_CHUNK_ROWS = 1 << 18
"""Rows worked on at once, to bound memory."""

_ONE, _SIGN = np.uint64(1), np.uint64(1 << 63)


def ranked(values: Float64Array, positive: npt.NDArray[np.bool_]) -> UInt64Array | None:
    """Samples in ascending order of their values, as numbers that are odd for positive samples: two samples have equal
    values if their numbers differ at most in the last bit. None if a value is not a number.

    The bits of a float order as an integer, but for the sign. The last bit of the mantissa makes room for the class, so
    two values within 2**-52 of each other tie; float32 values stay exact.

    >>> keys = ranked(np.array([2.0, -1.0, 2.0]), np.array([True, False, False]))
    >>> (keys & np.uint64(1)).tolist(), bool(keys[1] + np.uint64(1) == keys[2])
    ([0, 0, 1], True)

    Args:
        values: float64 [n].
        positive: bool [n].

    Returns:
        uint64 [n].
    """
    keys = np.empty(len(values), dtype=np.uint64)
    for part in slices(len(values), _CHUNK_ROWS):
        if np.isnan(values[part]).any():
            return None
        bits = (values[part] + 0.0).view(np.uint64)  # -0.0 becomes 0.0, which is equal to it
        bits ^= (np.uint64(0) - (bits >> np.uint64(63))) | _SIGN
        keys[part] = (bits & ~_ONE) | positive[part]
    keys.sort()
    return keys


def area_under_roc(keys: UInt64Array) -> float | None:
    """Share of the pairs of a positive and a negative sample whose positive one ranks above, ties counting half; None
    where there is no pair. Counted in integers, so it does not depend on the order of the samples.

    Args:
        keys: as :func:`ranked` gives them.
    """
    places = _places(keys)
    num_positive, num_negative = len(places), len(keys) - len(places)
    if num_positive == 0 or num_negative == 0:
        return None
    below_or_tied = int(places.sum()) - num_positive * (num_positive - 1) // 2
    first, tied_negatives = _ties(keys, places)
    tied_positives = np.searchsorted(keys, keys[first], side="right") - first
    halves = 2 * below_or_tied - int((tied_positives * tied_negatives).sum())
    return halves / (2 * num_positive * num_negative)


def average_precision(keys: UInt64Array) -> float | None:
    """Mean over the positive samples of the precision among all samples that rank at least as high; None where there is
    no positive one.

    Args:
        keys: as :func:`ranked` gives them.
    """
    places = _places(keys)
    if not len(places):
        return None
    own = keys[places]
    begins = np.flatnonzero(np.concatenate(([True], own[1:] != own[:-1])))  # of runs of positives that tie
    starts = places[begins]
    first, tied_negatives = _ties(keys, places)
    starts[np.searchsorted(starts, first)] -= tied_negatives
    sizes = np.diff(np.append(begins, len(places)))
    precision = (len(places) - begins) / (len(keys) - starts)
    return float((sizes * precision).sum() / len(places))


def _places(keys: UInt64Array) -> Int64Array:
    """Where the positive samples are, int64 [positives], ascending."""
    return np.flatnonzero(keys & _ONE).astype(np.int64, copy=False)


def _ties(keys: UInt64Array, places: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Runs of positives that tie with negatives: the position of each run's first, and the number of those negatives.
    Among equal values, negatives come first."""
    if places[0] == 0:
        places = places[1:] if len(places) > 1 else places[:0]
    first = places[keys[places - 1] + _ONE == keys[places]]
    begin = np.searchsorted(keys, keys[first - 1], side="left")
    return first, first - begin


class RankingMetric(ClassificationMetric):
    """A metric of how samples are ordered by the score of a class against all others."""

    multi_class: Literal["ovr"] | None = Field(
        None,
        description="ovr scores each class against the rest, by its softmax probability, and takes the mean. By "
        "default labels are 0 and 1, and a model has one or two outputs.",
    )
    average: Literal["macro", "weighted"] = Field(
        "macro",
        description="The mean over classes with multi_class: ovr: plain, or weighted by how often each is a label.",
    )
    per_class: bool = Field(
        False, description="Also report each class that occurs as a label; needs ``multi_class: ovr``."
    )

    @model_validator(mode="after")
    def _check_per_class(self) -> RankingMetric:
        if self.per_class and self.multi_class is None:
            raise ValueError("per_class: true needs multi_class: ovr, which scores every class")
        return self

    @property
    @abstractmethod
    def _short_name(self) -> str:
        """The name without how classes are combined."""

    @abstractmethod
    def _area(self, keys: UInt64Array) -> float | None:
        """The value of ranked samples."""

    @property
    def _takes_scores(self) -> bool:
        return True

    @property
    def result_name(self) -> str:
        return self._short_name if self.multi_class is None else f"{self._short_name}-ovr-{self.average}"

    def score(self, outcomes: Outcomes) -> float | None:
        if self.multi_class is None:
            positive, margin = self._positive(outcomes.labels), self._margin(outcomes.scores)
            keys = ranked(margin, positive)
            return None if keys is None else self._area(keys)
        values = {label: value for label, value in self._by_class(outcomes).items() if value is not None}
        if not values:
            return None
        weights = None
        if self.average == "weighted":
            weights = [np.count_nonzero(outcomes.labels == label) for label in values]
        return float(np.average(list(values.values()), weights=weights))

    def score_classes(self, outcomes: Outcomes) -> dict[int, float | None]:
        return self._by_class(outcomes) if self.per_class else {}

    def _by_class(self, outcomes: Outcomes) -> dict[int, float | None]:
        """The value of each class of the model that occurs as a label. A label that is none of them is negative for all
        of them."""
        scores = outcomes.scores
        if scores is None:
            raise InvalidInputError(f"metric {self.plugin_name}: there are no scores; expected the model's outputs")
        found: dict[int, float | None] = {}
        if scores.shape[1] <= 2:
            margin = self._margin(scores)
            columns = {0: -margin, 1: margin}
            for label in (0, 1):
                found |= self._one(label, outcomes.labels, columns[label])
            return found
        top, total = _normalisers(scores)
        for label in range(scores.shape[1]):
            found |= self._one(label, outcomes.labels, scores[:, label], top, total)
        return found

    def _one(
        self,
        label: int,
        labels: Int64Array,
        values: npt.NDArray[np.floating],
        top: npt.NDArray[np.float32] | None = None,
        total: Float64Array | None = None,
    ) -> dict[int, float | None]:
        positive = labels == label
        if not positive.any():
            return {}
        exact = values.astype(np.float64)
        if top is not None and total is not None:
            exact = np.exp(exact - top) / total
        keys = ranked(exact, positive)
        return {label: None if keys is None else self._area(keys)}

    def _positive(self, labels: Int64Array) -> npt.NDArray[np.bool_]:
        if len(labels) and (labels.min() < 0 or labels.max() > 1):
            wrong = int(labels.min() if labels.min() < 0 else labels.max())
            raise InvalidInputError(
                f"metric {self.plugin_name}: a label is {wrong}; expected only 0 and 1, so set multi_class: ovr"
            )
        positive: npt.NDArray[np.bool_] = labels == 1
        return positive

    def _margin(self, scores: npt.NDArray[np.float32] | None) -> Float64Array:
        """How far class 1 is above class 0: the single output, or the difference of two, which orders samples as the
        softmax probability of class 1 does."""
        if scores is None or scores.shape[1] > 2:
            outputs = "no scores" if scores is None else f"{scores.shape[1]} outputs"
            raise InvalidInputError(
                f"metric {self.plugin_name}: the model has {outputs}; expected one or two, so set multi_class: ovr"
            )
        margin = np.empty(len(scores))
        for part in slices(len(scores), _CHUNK_ROWS):
            exact = scores[part].astype(np.float64)
            margin[part] = exact[:, 0] if scores.shape[1] == 1 else exact[:, 1] - exact[:, 0]
        return margin


def _normalisers(scores: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], Float64Array]:
    """The largest score of each sample and Σ exp(score − largest): a column at a time, its softmax follows."""
    top, total = scores.max(axis=1), np.empty(len(scores))
    for part in slices(len(scores), max(1, _CHUNK_ROWS // scores.shape[1])):
        total[part] = np.exp(scores[part].astype(np.float64) - top[part, None]).sum(axis=1)
    return top, total
