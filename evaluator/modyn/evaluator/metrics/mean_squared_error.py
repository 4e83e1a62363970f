"""Mean squared error."""

from __future__ import annotations

from modyn.core.plugins.evaluation import METRICS, Float64Array
from modyn.evaluator.metrics.regression import MeanError


@METRICS.register("MeanSquaredError")
class MeanSquaredError(MeanError):
    """Mean over samples and outputs of (output − label)². Values equal scikit-learn's ``mean_squared_error``.

    >>> import numpy as np
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> nothing = np.zeros(2, dtype=np.int64)
    >>> outputs = np.array([[1.0], [2.0]], dtype=np.float32)
    >>> MeanSquaredError().score(Outcomes(nothing, nothing, outputs, targets=np.array([[1.0], [4.0]])))
    2.0
    """

    @property
    def result_name(self) -> str:
        return "MSE"

    def _errors(self, differences: Float64Array) -> Float64Array:
        return differences * differences
