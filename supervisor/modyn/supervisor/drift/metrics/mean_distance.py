"""Distance of mean features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.features import principal_components, standardized
from modyn.supervisor.drift.permutation import PermutationMetric, Splits
from modyn.supervisor.drift.published import EMBEDDING_KEYS


@DRIFT_METRICS.register("MeanDistance", aliases=("EvidentlySimpleDistanceDriftMetric",))
class MeanDistance(PermutationMetric):
    """How far the mean of the features has moved; cheapest of all, and sees nothing else.

    With a and b the means of the two windows: euclidean ``|a - b|``, cityblock ``sum |a_j - b_j|``, chebyshev
    ``max |a_j - b_j|``, cosine ``1 - a'b / (|a| |b|)``. Standardised features count in standard deviations of both
    windows together; for the cosine they keep their mean, since angles are measured from the origin. The cosine
    distance is 0 if both means are 0, and 1 if one of them is.

    >>> rng = np.random.default_rng(0)
    >>> reference, current = np.zeros((2, 3), np.float32), np.array([[3.0, 4.0, 0.0]], np.float32)
    >>> metric = MeanDistance(
    ...     decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.2}, standardize=False
    ... )
    >>> metric.distance(reference, current, rng)
    5.0
    """

    ignored_keys: ClassVar[Mapping[str, str]] = EMBEDDING_KEYS

    distance_metric: Literal["euclidean", "cosine", "cityblock", "chebyshev"] = Field(
        "euclidean", description="How the distance of two means is measured."
    )
    num_pca_component: PositiveInt | None = Field(
        None, description="Look at so many principal components of both windows instead of the features."
    )
    standardize: bool = Field(
        True, description="Give every feature the same scale first: variance 1 over both windows."
    )

    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        if self.standardize:
            pooled = standardized(pooled, centered=self.distance_metric != "cosine")
        a, b = splits.means(principal_components(pooled, self.num_pca_component))
        order = 1.0 if self.distance_metric == "cosine" else 0.5
        return np.asarray(DISTANCES[self.distance_metric](a, b) * splits.scale(order), dtype=np.float64)


def _cosine(a: Features, b: Features) -> Features:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("ij,ij->i", a, b)
    alike = np.where((a == b).all(axis=1), 1.0, 0.0)
    return np.asarray(1 - np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1), alike), dtype=np.float32)


DISTANCES = {
    "euclidean": lambda a, b: np.linalg.norm(a - b, axis=1),
    "cityblock": lambda a, b: np.abs(a - b).sum(axis=1),
    "chebyshev": lambda a, b: np.abs(a - b).max(axis=1),
    "cosine": _cosine,
}
