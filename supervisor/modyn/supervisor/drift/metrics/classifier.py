"""How well a classifier tells two windows apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt
from scipy import linalg, stats

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.features import check_windows, principal_components, standardized
from modyn.supervisor.drift.permutation import PermutationMetric, Splits
from modyn.supervisor.drift.published import EMBEDDING_KEYS, LIBRARY_KEYS

Bools = npt.NDArray[np.bool_]

FOLD_BLOCKS = 10
"""Blocks per window that go to the two folds in turn, where a test does not say how long they are."""


@DRIFT_METRICS.register(
    "ClassifierTwoSample", aliases=("EvidentlyModelDriftMetric", "AlibiDetectClassifierDriftMetric")
)
class ClassifierTwoSample(PermutationMetric):
    """Area under the ROC curve of a linear classifier between the windows; sees shifts of single features and of many.

    Half of the samples, every other block, train a linear discriminant ``direction = S^-1 (mean_current -
    mean_reference)`` that ranks the other half, and the other way round; .5 is chance, 1 is told apart entirely
    (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017). S is the scatter around the mean of both
    windows together plus a small ridge: it has the same direction as the scatter within windows, and does not depend on
    which window a sample lies in. So all refits of a permutation test, which make it exact, are one matrix product.

    >>> rng = np.random.default_rng(0)
    >>> reference, current = rng.normal(size=(2, 500, 8)).astype(np.float32)
    >>> metric = ClassifierTwoSample(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.55})
    >>> metric.distance(reference, current, rng) < 0.55, metric.distance(reference, current + 0.5, rng) > 0.7
    (True, True)
    """

    ignored_keys: ClassVar[Mapping[str, str]] = {
        **LIBRARY_KEYS,
        **EMBEDDING_KEYS,
        "classifier_id": "the classifier is a linear discriminant",
    }

    ridge: PositiveFloat = Field(
        0.001, description="Added to the variance of each standardised feature; large values hide small shifts."
    )

    num_pca_component: PositiveInt | None = Field(
        None, description="Look at so many principal components of both windows instead of the features."
    )

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        reference, current = check_windows(reference, current)
        pooled = self._prepared(np.concatenate((reference, current)))
        splits = Splits.observed(len(reference), len(current))
        folds = np.concatenate(
            [_alternating(len(window), len(window) // FOLD_BLOCKS) for window in (reference, current)]
        )
        return float(self._areas(pooled, splits.samples, folds)[0])

    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        length = splits.blocks.length
        sizes = (splits.num_reference, splits.num_current)
        folds = np.concatenate([_alternating(size, length) for size in sizes])
        areas = self._areas(self._prepared(pooled), splits.samples, folds)
        return 0.5 + (areas - 0.5) * splits.scale(1.0)

    def _prepared(self, pooled: Features) -> Features:
        return standardized(principal_components(standardized(pooled), self.num_pca_component))

    def _areas(self, pooled: Features, current: Bools, folds: Bools) -> Numbers:
        """Area under the curve in every split, the mean of both folds weighted by their samples, float64 [splits]."""
        total = np.zeros(current.shape[1])
        for fold in (folds, ~folds):
            if fold.any():
                directions = self._directions(pooled[~fold], current[~fold])
                total += fold.mean() * areas_under_curve(pooled[fold] @ directions, current[fold])
        return total

    def _directions(self, pooled: Features, current: Bools) -> Features:
        """A classifier for every split, float32 [d, splits]; 0 if it would have to learn from one window only."""
        size, features = pooled.shape
        if size == 0:
            return np.zeros((features, current.shape[1]), dtype=np.float32)
        centered = pooled - pooled.mean(axis=0)
        scatter = centered.T @ centered / np.float32(size)
        scatter[np.diag_indices(features)] += np.float32(self.ridge)
        labels = current.astype(np.float32)
        # with centred features the difference of the means is a multiple of the sum over the current window
        sums = centered.T @ (labels - labels.mean(axis=0))
        return np.asarray(linalg.solve(scatter, sums, assume_a="pos", check_finite=False), dtype=np.float32)


def _alternating(size: int, length: int) -> Bools:
    """Every other block of samples, bool [size]."""
    return np.asarray(np.arange(size) // max(length, 1) % 2 == 1)


def areas_under_curve(scores: Features, positive: Bools) -> Numbers:
    """Area under the ROC curve of every column; equal scores count half; .5 if one class is missing, float64 [columns].

    Args:
        scores: float32 [n, columns].
        positive: bool [n, columns].

    >>> areas_under_curve(np.array([[0.1], [0.4], [0.4], [0.8]], np.float32), np.array([[0], [0], [1], [1]], bool))
    array([0.875])
    """
    rows, labels = np.ascontiguousarray(scores.T), np.ascontiguousarray(positive.T)
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        rank_sums = np.einsum("ij,ij->i", stats.rankdata(rows, axis=1), labels)
    else:
        ranks = np.arange(1, rows.shape[1] + 1, dtype=np.float64)
        rank_sums = np.take_along_axis(labels, order, axis=1) @ ranks
    positives = labels.sum(axis=1)
    pairs = positives * (rows.shape[1] - positives)
    above = rank_sums - positives * (positives + 1) / 2
    return np.asarray(np.where(pairs > 0, above / np.maximum(pairs, 1), 0.5), dtype=np.float64)
