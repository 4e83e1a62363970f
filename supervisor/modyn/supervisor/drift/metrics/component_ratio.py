"""Share of features that drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from scipy import stats

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.ecdf import Deviations, deviations
from modyn.supervisor.drift.features import principal_components, standardized
from modyn.supervisor.drift.permutation import PermutationMetric, Splits
from modyn.supervisor.drift.published import EMBEDDING_KEYS


@DRIFT_METRICS.register("ComponentRatio", aliases=("EvidentlyRatioDriftMetric",))
class ComponentRatio(PermutationMetric):
    """The share of features (or principal components) that drift, each by a threshold of its own; sees changes of many
    features, and misses those of single ones.

    A feature drifts by ``wasserstein`` if ``integral |F_reference - F_current| dx``, in standard deviations of both
    windows together, reaches the threshold, by ``ks`` if its Kolmogorov–Smirnov p-value is below it. The threshold does
    not depend on the windows' sizes: 100 samples differ by .1 standard deviations without any drift. The permutation
    test compares the share, and of equal shares the mean of the features' statistics.

    >>> rng = np.random.default_rng(0)
    >>> reference, current = rng.normal(size=(2, 2000, 4)).astype(np.float32)
    >>> current[:, :2] += 1
    >>> metric = ComponentRatio(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.2})
    >>> metric.distance(reference, current, rng)
    0.5
    """

    ignored_keys: ClassVar[Mapping[str, str]] = EMBEDDING_KEYS

    component_stattest: Literal["wasserstein", "ks"] = Field(
        "wasserstein", description="What is measured of each feature."
    )
    component_stattest_threshold: PositiveFloat = Field(0.1, description="From which on (`ks`: below which) it drifts.")
    num_pca_component: PositiveInt | None = Field(
        None, description="Look at so many principal components of both windows instead of the features."
    )

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        measured = super().distance(reference, current, rng)
        features = min(self.num_pca_component or reference.shape[1], reference.shape[1])
        return float(np.floor(measured * features + 1e-6) / features)

    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        columns = standardized(principal_components(pooled, self.num_pca_component))
        measure = _wasserstein if self.component_stattest == "wasserstein" else _largest
        measured = np.array([measure(feature) for feature in deviations(columns, splits)]) * splits.scale(0.5)
        share = np.mean(measured >= self._critical(splits), axis=0)
        mean = measured.mean(axis=0)
        return np.asarray(share + 0.5 / len(measured) * mean / (1 + mean), dtype=np.float64)

    def _critical(self, splits: Splits) -> float:
        if self.component_stattest == "wasserstein":
            return self.component_stattest_threshold
        n, m = splits.num_reference, splits.num_current
        level = min(self.component_stattest_threshold, 1.0)
        return float(stats.kstwo.isf(level, max(1, round(n * m / (n + m)))))


def _wasserstein(feature: Deviations) -> Numbers:
    gaps = np.diff(feature.values) / np.float32(feature.scale)
    return np.asarray(gaps @ np.abs(feature.differences[:-1]).astype(np.float32), dtype=np.float64)


def _largest(feature: Deviations) -> Numbers:
    return np.asarray(np.abs(feature.differences).max(axis=0) / feature.scale, dtype=np.float64)
