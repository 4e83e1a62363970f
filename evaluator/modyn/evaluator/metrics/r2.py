"""Coefficient of determination."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import METRICS, Float64Array, Outcomes
from modyn.evaluator.metrics.regression import RegressionMetric, targets_and_outputs
from modyn.evaluator.sums import sum_stretches

_RESOLVED = 1e-12
"""A variance below so much of the mean square is indistinguishable from none."""


@METRICS.register("R2")
class R2(RegressionMetric):
    """1 − Σ (label − output)² / Σ (label − mean label)², the mean of it over outputs: 1 for a perfect model, 0 for one
    that always says the mean of the labels, negative for a worse one.

    Undefined where the labels of an output are all equal (scikit-learn says 1 or 0 then); other values equal its
    ``r2_score``. Sums are taken of labels from which their mean over all windows was subtracted, so that little is lost
    to cancellation; where the labels of a window differ from each other by less than a millionth of their distance from
    that mean, they count as equal.

    >>> nothing = np.zeros(2, dtype=np.int64)
    >>> outputs = np.array([[1.0], [2.0]], dtype=np.float32)
    >>> R2().score(Outcomes(nothing, nothing, outputs, targets=np.array([[0.0], [2.0]])))
    0.5
    """

    bounds: ClassVar[tuple[float, float] | None] = (-np.inf, 1.0)

    @property
    def result_name(self) -> str:
        return "R2"

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        """The number of samples and, for each output, the sums of labels, of their squares, and of squared errors."""
        targets, outputs = targets_and_outputs(self.plugin_name, outcomes)
        sums = [np.diff(edges).astype(np.float64)]
        for target, output in zip(targets.T, outputs.T, strict=True):
            known = target[np.isfinite(target)]  # others make only the windows undefined that they are in
            shifted = target - (known.mean() if len(known) else 0.0)
            error = target - output
            sums += [sum_stretches(values, edges) for values in (shifted, shifted * shifted, error * error)]
        return np.stack(sums, axis=1)

    def values(self, statistics: Float64Array) -> Float64Array:
        count = np.maximum(statistics[..., :1], 1.0)
        first, second, errors = (statistics[..., 1 + i :: 3] for i in range(3))
        variance = second - first * first / count
        resolved = variance > _RESOLVED * second
        explained = 1.0 - errors / np.where(resolved, variance, 1.0)
        values: Float64Array = np.where(resolved, explained, np.nan).mean(axis=-1)
        return values
