"""Maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.features import standardized
from modyn.supervisor.drift.kernels import Factors, block_quadratic_forms, median_distance
from modyn.supervisor.drift.permutation import PermutationMetric, Splits
from modyn.supervisor.drift.published import LIBRARY_KEYS


@DRIFT_METRICS.register("MMD", aliases=("AlibiDetectMmdDriftMetric",))
class MMD(PermutationMetric):
    """Squared maximum mean discrepancy with a Gaussian kernel: sees any change of the joint distribution.

    The unbiased estimate of Gretton et al., "A kernel two-sample test", JMLR 13, 2012, equation 3, with
    ``k(x, y) = exp(-|x - y|^2 / (2 sigma^2))``: the mean of k over the pairs of two samples of the reference window,
    plus that over the pairs in the current one, minus twice that over the pairs across. About 0 (possibly below)
    without drift, at most 2. A window of a single sample counts k(x, x) = 1 as its mean.

    The test exchanges blocks of samples. Since the kernel matrix K does not change, with v the centred indicator of the
    current window only ``v' K v`` is needed per permutation, which is one matrix product for all of them.

    >>> rng = np.random.default_rng(0)
    >>> reference, same, other = rng.normal([[[0]], [[0]], [[1]]], size=(3, 200, 2)).astype(np.float32)
    >>> metric = MMD(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.05})
    >>> metric.distance(reference, same, rng) < 0.01, metric.distance(reference, other, rng) > 0.1
    (True, True)
    >>> metric.test(reference, other, alpha=0.05, permutations=100, block_length=None, rng=rng).p_value
    0.009900990099009901
    """

    ignored_keys: ClassVar[Mapping[str, str]] = {
        **LIBRARY_KEYS,
        "num_permutations": "HypothesisTestCriterion has the number of permutations",
        "threshold": "the decision criterion has the threshold",
        "configure_kernel_from_x_ref": "the width of the kernel comes from both windows, which keeps the test exact",
    }

    kernel: Literal["GaussianRBF"] = Field("GaussianRBF", description="The kernel; there is one.")
    sigma: PositiveFloat | None = Field(
        None, description="Width of the kernel; by default the median distance of samples of both windows."
    )
    standardize: bool = Field(
        True, description="Give every feature the same scale first: mean 0 and variance 1 over both windows."
    )

    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        if self.standardize:
            pooled = standardized(pooled)
        factors = Factors.gaussian(pooled, self.sigma or median_distance(pooled))
        n, m = splits.num_reference, splits.num_current
        center = np.float32(m / (n + m))
        vectors = splits.current.astype(np.float32) - center
        forms = block_quadratic_forms(factors, vectors, splits.blocks.length)
        rounding = m / (n + m) - float(center)  # matters if one window is much shorter than the other
        sums = forms.row_sums.reshape(splits.blocks.count, -1).sum(axis=1) @ vectors
        values = forms.values - 2 * rounding * sums + rounding**2 * forms.row_sums.sum()
        return unbiased(values * splits.scale(1.0), forms.row_sums, splits)


def unbiased(forms: Numbers, row_sums: Numbers, splits: Splits) -> Numbers:
    """Unbiased estimates of squared MMD, float64 [splits].

    With H the centring matrix, ``HKH`` gives the same estimate as K, and its rows sum to 0, so that its sums over the
    reference window, over the current one and across are s, s and -s with ``s = v' K v``.

    Args:
        forms: ``v' K v`` of the centred indicator v of the current window, float64 [splits].
        row_sums: of K, float64 [n + m]; the diagonal of K is 1.
    """
    n, m = splits.num_reference, splits.num_current
    total = n + m
    diagonal = 1 - 2 * row_sums / total + row_sums.sum() / total**2
    sums = diagonal.reshape(splits.blocks.count, -1).sum(axis=1)
    in_current = sums @ splits.current
    in_reference = sums.sum() - in_current
    if min(n, m) == 1:  # a pair of a single sample is the sample and itself
        in_reference, in_current = (in_reference if n > 1 else 0.0), (in_current if m > 1 else 0.0)
    within = (forms - in_reference) / (n * max(n - 1, 1)) + (forms - in_current) / (m * max(m - 1, 1))
    return np.asarray(within + 2 * forms / (n * m), dtype=np.float64)
