"""Cramér–von Mises, feature by feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy import special, stats

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.ecdf import Deviations, deviations
from modyn.supervisor.drift.per_feature import PerFeatureMetric
from modyn.supervisor.drift.permutation import Splits
from modyn.supervisor.drift.published import LIBRARY_KEYS


@DRIFT_METRICS.register("CramerVonMises", aliases=("AlibiDetectCVMDriftMetric",))
class CramerVonMises(PerFeatureMetric):
    """The squared differences of the distribution functions of each feature; sees small shifts that last over its
    whole range better than Kolmogorov–Smirnov.

    ``T = n m / (n + m)^2 * sum (F_reference(z) - F_current(z))^2`` over all samples z of both windows, per feature
    (Anderson, "On the distribution of the two-sample Cramér–von Mises criterion", 1962), as
    ``scipy.stats.cramervonmises_2samp``. The distance is the mean of T over the features. The permutation test takes
    the largest T of all features. Where values are equal, SciPy takes mean ranks, which makes T large:
    the distance and the analytic test follow it, the permutation test keeps to the formula.

    >>> rng = np.random.default_rng(0)
    >>> reference, current = rng.normal(size=(2, 200, 4)).astype(np.float32)
    >>> metric = CramerVonMises(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 1.0})
    >>> current[:, 2] += 0.5
    >>> result = metric.test(reference, current, alpha=0.05, permutations=100, block_length=None, rng=rng)
    >>> result.rejects, result.p_value < 0.02
    (True, True)
    """

    ignored_keys: ClassVar[Mapping[str, str]] = LIBRARY_KEYS
    order: ClassVar[float] = 1.0

    def per_feature(self, pooled: Features, splits: Splits) -> Numbers:
        n, m = splits.num_reference, splits.num_current
        rows = []
        for feature in deviations(pooled, splits):
            differences = feature.differences / np.float32(feature.scale)
            weighted = differences * feature.counts.astype(np.float32)[:, None] if feature.has_ties else differences
            rows.append(np.einsum("gs,gs->s", weighted, differences, dtype=np.float64))
        return np.array(rows) * np.float64(n * m / (n + m) ** 2)

    def observed(self, reference: Features, current: Features) -> Numbers:
        n, m = len(reference), len(current)
        pooled, splits = np.concatenate((reference, current)), Splits.observed(n, m)
        found = self.per_feature(pooled, splits)[:, 0]
        for number, feature in enumerate(deviations(pooled, splits)):
            if feature.has_ties:
                found[number] = _from_mean_ranks(feature, n, m)
        return found

    def analytic_p_values(
        self, reference: Features, current: Features, statistics: Numbers, sizes: tuple[float, float] | None
    ) -> Numbers:
        if sizes is None:
            pairs = zip(reference.T.astype(np.float64), current.T.astype(np.float64), strict=True)
            return np.array([stats.cramervonmises_2samp(x, y).pvalue for x, y in pairs])
        n, m = sizes
        given = len(reference) * len(current) / (len(reference) + len(current))
        return 1 - limiting_distribution(statistics * (n * m / (n + m)) / given)


def _from_mean_ranks(feature: Deviations, n: int, m: int) -> float:
    """``(n sum (r_i - i)^2 + m sum (s_j - j)^2) / (n m (n + m)) - (4 n m - 1) / (6 (n + m))`` with r_i and s_j the
    ascending mean ranks of the windows' samples among all."""
    ranks = np.cumsum(feature.counts) - (feature.counts - 1) / 2
    cumulated = np.cumsum(feature.counts)
    # F_reference - F_current = c_reference / n - c_current / m with c_reference + c_current = cumulated
    differences = feature.differences[:, 0] * (n * m / feature.scale)
    in_reference = np.rint((differences + n * cumulated) / (n + m)).astype(np.int64)
    total = 0.0
    for size, reached in ((n, in_reference), (m, cumulated - in_reference)):
        mine = np.repeat(ranks, np.diff(reached, prepend=0))
        total += size * float(np.sum((mine - np.arange(1, size + 1)) ** 2))
    return total / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m))


def limiting_distribution(values: Numbers) -> Numbers:
    """Distribution function of the criterion for many samples.

    Csörgő and Faraway, "The exact and asymptotic distributions of Cramér–von Mises statistics", Journal of the Royal
    Statistical Society B 58, 1996, equation 1.2.

    >>> limiting_distribution(np.array([0.0, 0.46136, 5.0])).round(4).tolist()
    [0.0, 0.95, 1.0]
    """
    x = np.clip(values, 1e-3, 20)[:, None]
    k = np.arange(20)
    y = (4 * k + 1) ** 2 / (16 * x)
    terms = special.gamma(k + 0.5) / special.factorial(k) * np.sqrt(4 * k + 1) * np.exp(-y) * special.kv(0.25, y)
    return np.asarray(np.clip(terms.sum(axis=1) / (np.pi**1.5 * np.sqrt(x[:, 0])), 0, 1), dtype=np.float64)
