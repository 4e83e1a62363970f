"""Metrics that look at each feature on its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from modyn.core.plugins.drift import Numbers, TestResult
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.dependence import dependence
from modyn.supervisor.drift.features import check_windows
from modyn.supervisor.drift.permutation import PermutationMetric, Splits

FEWEST_EFFECTIVE = 8
"""Independent samples in a window for which limiting distributions are good enough."""


class PerFeatureMetric(PermutationMetric):
    """A statistic per feature; the distance is their mean, the test asks whether any of them is too large.

    The permutation test compares the largest statistic with the largest ones of the permuted windows, which keeps the
    chance of any false alarm at alpha however the features depend on each other (Westfall and Young, Resampling-Based
    Multiple Testing, 1993). Where the statistic takes few values, ties are broken at random, so that the test is exact.

    The analytic test takes SciPy's p-value of each feature, with the numbers of samples divided by the integrated
    autocorrelation time if there is autocorrelation, and corrects them for the number d of features: with Bonferroni
    ``min(1, d * min p)``, or with the method of Benjamini and Hochberg (1995; for the question whether there is any
    drift that of Simes, 1986) ``min over k of p_(k) * d / k``. Its statistic is the largest one; it has no threshold in
    terms of it.
    """

    method: Literal["permutation", "analytic"] = Field(
        "permutation", description="How a hypothesis test is made; `analytic` is faster, and less exact on streams."
    )
    correction: Literal["bonferroni", "fdr"] = Field(
        "bonferroni", description="For many features, if the method is analytic; the permutation test needs none."
    )

    order: ClassVar[float]
    """1 if the statistic grows with the square of a difference between the windows, .5 if it is linear."""

    @abstractmethod
    def per_feature(self, pooled: Features, splits: Splits) -> Numbers:
        """The statistic of each feature in every split, float64 [d, splits].

        Args:
            pooled: float32 [n + m, d].
        """

    @abstractmethod
    def analytic_p_values(
        self, reference: Features, current: Features, statistics: Numbers, sizes: tuple[float, float] | None
    ) -> Numbers:
        """p-values of the features, float64 [d].

        Args:
            statistics: observed, float64 [d].
            sizes: effective numbers of samples; None if all samples are independent.
        """

    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        return np.asarray(self.per_feature(pooled, splits).max(axis=0), dtype=np.float64) * splits.scale(self.order)

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        return float(self.observed(*check_windows(reference, current)).mean())

    def test(
        self,
        reference: Features,
        current: Features,
        *,
        alpha: float,
        permutations: int,
        block_length: int | None,
        rng: np.random.Generator,
    ) -> TestResult:
        if self.method == "permutation":
            return super().test(
                reference, current, alpha=alpha, permutations=permutations, block_length=block_length, rng=rng
            )
        reference, current = check_windows(reference, current)
        observed = self.observed(reference, current)
        time = dependence(reference, current).time if block_length is None else float(block_length)
        sizes = None if time <= 1 else (len(reference) / time, len(current) / time)
        if sizes is not None and min(sizes) < FEWEST_EFFECTIVE:
            note = (
                f"windows of {len(reference):,} and {len(current):,} samples are too short for the autocorrelation they"
                f" show: {time:,.1f} samples tell as much as one independent one; about {FEWEST_EFFECTIVE * time:,.0f} "
                "samples in each are needed"
            )
            return TestResult(float(observed.max()), None, None, False, note)
        p_values = self.analytic_p_values(reference, current, observed, sizes)
        p_value = corrected(p_values, self.correction)
        note = "" if sizes is None else f"{sizes[0]:,.0f} and {sizes[1]:,.0f} effective samples"
        return TestResult(float(observed.max()), None, p_value, p_value <= alpha, note)

    def observed(self, reference: Features, current: Features) -> Numbers:
        """The statistic of each feature, float64 [d]."""
        splits = Splits.observed(len(reference), len(current))
        return self.per_feature(np.concatenate((reference, current)), splits)[:, 0]


def corrected(p_values: Numbers, correction: Literal["bonferroni", "fdr"]) -> float:
    """One p-value for whether any feature drifts.

    >>> corrected(np.array([0.01, 0.011, 0.5]), "bonferroni"), corrected(np.array([0.01, 0.011, 0.5]), "fdr")
    (0.03, 0.0165)
    """
    if correction == "bonferroni":
        return min(1.0, float(p_values.min()) * len(p_values))
    ranks = np.arange(1, len(p_values) + 1)
    return min(1.0, float((np.sort(p_values) * len(p_values) / ranks).min()))
