"""Log loss: the negative logarithm of the probability of the label."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from modyn.core.plugins.evaluation import METRICS, Float64Array, Outcomes
from modyn.evaluator.metrics.probabilities import ProbabilityLoss, of_labels

_SMALLEST = float(np.finfo(np.float64).eps)


@METRICS.register("LogLoss")
class LogLoss(ProbabilityLoss):
    """Mean of −ln p, where p is the probability that the model gave to the label (cross-entropy, in nats).

    Probabilities are the softmax of two or more outputs, or the sigmoid of a single one. They are clipped to
    [2**-52, 1 − 2**-52], so that one sure error costs at most 36; so much costs a label that is no class of the model.
    Undefined where a score is not a number. Values equal scikit-learn's ``log_loss`` of these probabilities.

    >>> scores = np.log(np.array([[0.5, 0.5], [0.1, 0.9]])).astype(np.float32)
    >>> labels = np.array([0, 1])
    >>> round(LogLoss().score(Outcomes(labels=labels, predictions=labels, scores=scores)), 4)
    0.3993
    """

    bounds: ClassVar[tuple[float, float] | None] = (-float(np.log1p(-_SMALLEST)), -float(np.log(_SMALLEST)))

    @property
    def result_name(self) -> str:
        return "Log-Loss"

    def _losses(self, outcomes: Outcomes) -> Float64Array:
        losses: Float64Array = -np.log(np.clip(of_labels(outcomes), _SMALLEST, 1 - _SMALLEST))
        return losses
