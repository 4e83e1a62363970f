"""Maximum mean discrepancy without permutations."""

from __future__ import annotations

import numpy as np
from pydantic import Field, PositiveFloat
from scipy import stats

from modyn.core.plugins.drift import DRIFT_METRICS, DriftMetric, Numbers, TestResult
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.dependence import INDEPENDENT, dependence
from modyn.supervisor.drift.features import check_windows, standardized
from modyn.supervisor.drift.kernels import TILE, Factors, median_distance
from modyn.supervisor.drift.permutation import check_options

FEWEST_BLOCKS = 4
"""In half a window, for an estimate of their variance."""


@DRIFT_METRICS.register("CrossMMD")
class CrossMMD(DriftMetric):
    """Maximum mean discrepancy with samples split in two halves, whose test needs no permutations.

    One half of both windows gives the function that tells them apart best, ``g(z) = mean k(z, reference) - mean k(z,
    current)``; on the other half the mean of g over the reference window minus that over the current one is an unbiased
    estimate of squared MMD, the distance. Divided by its standard error it is normal without drift (Shekhar, Kim and
    Ramdas, "A permutation-free kernel two-sample test", NeurIPS 2022). Several times cheaper than ``MMD``, and a little
    less powerful.

    On autocorrelated streams g is averaged over blocks of samples, and the standard error is that of the blocks; the
    quantile is Student's with the degrees of freedom of Welch's test. g comes from the newer half of the reference
    window and the older half of the current one, and a block is left out between it and the rest.

    >>> rng = np.random.default_rng(0)
    >>> reference, same, other = rng.normal([[[0]], [[0]], [[1]]], size=(3, 200, 2)).astype(np.float32)
    >>> metric = CrossMMD(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.05})
    >>> [
    ...     metric.test(reference, window, alpha=0.05, permutations=0, block_length=None, rng=rng).rejects
    ...     for window in (same, other)
    ... ]
    [False, True]
    """

    sigma: PositiveFloat | None = Field(
        None, description="Width of the kernel; by default the median distance of samples of both windows."
    )
    standardize: bool = Field(
        True, description="Give every feature the same scale first: mean 0 and variance 1 over both windows."
    )

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        x, y = self._witness(*check_windows(reference, current))
        return float(x.mean() - y.mean())

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
        reference, current = check_windows(reference, current)
        check_options(alpha, block_length)
        found = INDEPENDENT if block_length is not None else dependence(reference, current)
        length = block_length or found.block_length
        x, y = self._witness(reference, current)
        gap = length if length > 1 else 0
        x, y = _block_means(x[: len(x) - gap], length), _block_means(y[min(gap, len(y)) :], length)
        if min(len(x), len(y)) < FEWEST_BLOCKS:
            note = _too_short(len(reference), len(current), len(x), len(y), length)
            return TestResult(self.distance(reference, current, rng), None, None, False, note)
        errors = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
        variance = sum(errors) * found.inflation(length)
        if variance < 1e-24:  # no sample differs from another within its window
            differ = bool(x.mean() - y.mean() > 1e-12)
            note = "all samples of a window are equal" if differ else "all samples are equal"
            return TestResult(self.distance(reference, current, rng), None, 0.0 if differ else 1.0, differ, note)
        freedom = sum(errors) ** 2 / (errors[0] ** 2 / (len(x) - 1) + errors[1] ** 2 / (len(y) - 1))
        statistic = float((x.mean() - y.mean()) / np.sqrt(variance))
        p_value = float(stats.t.sf(statistic, freedom))
        threshold = float(stats.t.isf(alpha, freedom))
        note = f"blocks of {length:,} samples" if length > 1 else ""
        return TestResult(statistic, threshold, p_value, p_value <= alpha, note)

    def _witness(self, reference: Features, current: Features) -> tuple[Numbers, Numbers]:
        """g of the older half of the reference window and of the newer half of the current one, in the order of time.

        A window of a single sample serves as both of its halves.
        """
        n, m = len(reference), len(current)
        pooled = np.concatenate((reference, current))
        if self.standardize:
            pooled = standardized(pooled)
        factors = Factors.gaussian(pooled, self.sigma or median_distance(pooled))
        older, newer = slice(0, (n + 1) // 2), slice(n + m // 2, n + m)
        inner_reference, inner_current = slice(n // 2 if n == 1 else (n + 1) // 2, n), slice(n, n + max(1, m // 2))
        values = []
        for half in (older, newer):
            parts = []
            for start in range(half.start, half.stop, TILE):
                rows = slice(start, min(start + TILE, half.stop))
                near = factors.kernel(rows, inner_reference).mean(axis=1, dtype=np.float64)
                parts.append(near - factors.kernel(rows, inner_current).mean(axis=1, dtype=np.float64))
            values.append(np.concatenate(parts))
        return values[0], values[1]


def _block_means(values: Numbers, length: int) -> Numbers:
    """Means of whole blocks, float64 [blocks]; the first samples are left out if they do not fill one."""
    count = len(values) // length
    blocks = values[len(values) - count * length :].reshape(count, length)
    return np.asarray(blocks.mean(axis=1), dtype=np.float64)


def _too_short(reference: int, current: int, reference_blocks: int, current_blocks: int, length: int) -> str:
    why = "for the autocorrelation they show" if length > 1 else "to be tested"
    needed = 2 * (FEWEST_BLOCKS + (length > 1)) * length
    return (
        f"windows of {reference:,} and {current:,} samples are too short {why}: half of them holds {reference_blocks} "
        f"and {current_blocks} blocks of {length:,} samples; at least {FEWEST_BLOCKS} in each, windows of about "
        f"{needed:,} samples, are needed"
    )
