"""Kolmogorov–Smirnov, feature by feature."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy import stats

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.ecdf import deviations
from modyn.supervisor.drift.per_feature import PerFeatureMetric
from modyn.supervisor.drift.permutation import Splits
from modyn.supervisor.drift.published import LIBRARY_KEYS


@DRIFT_METRICS.register("KolmogorovSmirnov", aliases=("AlibiDetectKSDriftMetric",))
class KolmogorovSmirnov(PerFeatureMetric):
    """The largest difference of the distribution functions of each feature; sees shifts of single features.

    ``D = max |F_reference(x) - F_current(x)|`` per feature as ``scipy.stats.ks_2samp``; the distance is the mean of D
    over the features, in [0, 1]. The permutation test takes the largest D of all features.

    >>> rng = np.random.default_rng(0)
    >>> reference, current = rng.normal(size=(2, 200, 4)).astype(np.float32)
    >>> metric = KolmogorovSmirnov(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.1})
    >>> current[:, 2] += 0.5
    >>> result = metric.test(reference, current, alpha=0.05, permutations=100, block_length=None, rng=rng)
    >>> result.rejects, round(result.statistic, 2), round(metric.distance(reference, current, rng), 2)
    (True, 0.3, 0.14)
    """

    ignored_keys: ClassVar[Mapping[str, str]] = LIBRARY_KEYS
    order: ClassVar[float] = 0.5

    alternative_hypothesis: Literal["two-sided", "less", "greater"] = Field(
        "two-sided",
        description="`less` looks only at where the reference's distribution function is below that of the current "
        "window, which happens where the reference's values are larger; `greater` at the opposite.",
    )

    def per_feature(self, pooled: Features, splits: Splits) -> Numbers:
        rows = []
        for feature in deviations(pooled, splits):
            highest, lowest = feature.differences.max(axis=0), -feature.differences.min(axis=0)
            largest = {"less": lowest, "greater": highest}.get(self.alternative_hypothesis, np.maximum(highest, lowest))
            rows.append(np.maximum(largest, 0) / feature.scale)
        return np.array(rows, dtype=np.float64)

    def analytic_p_values(
        self, reference: Features, current: Features, statistics: Numbers, sizes: tuple[float, float] | None
    ) -> Numbers:
        if sizes is None:
            pairs = zip(reference.T, current.T, strict=True)
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # it falls back by itself
                return np.array([stats.ks_2samp(x, y, self.alternative_hypothesis).pvalue for x, y in pairs])
        n, m = sizes
        effective = n * m / (n + m)
        if self.alternative_hypothesis == "two-sided":
            return np.asarray(stats.kstwo.sf(statistics, max(1, round(effective))), dtype=np.float64)
        return np.asarray(np.clip(np.exp(-2 * effective * statistics**2), 0, 1), dtype=np.float64)
