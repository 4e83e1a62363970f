"""Brier score: the squared error of class probabilities."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from modyn.core.plugins.evaluation import METRICS, Float64Array, Outcomes
from modyn.evaluator.metrics.probabilities import ProbabilityLoss, of_labels


@METRICS.register("Brier")
class Brier(ProbabilityLoss):
    """Mean over samples of Σ (p_c − y_c)² over the classes c, where y_c is 1 for the label and else 0; of models with
    one or two outputs half of that, which is the squared error of the probability of class 1.

    Probabilities are the softmax of two or more outputs, or the sigmoid of a single one. A label that is no class of
    the model counts as one more class, of probability zero. Undefined where a score is not a number. Values equal
    scikit-learn's ``brier_score_loss`` of these probabilities.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950).

    >>> scores = np.log(np.array([[0.5, 0.5], [0.1, 0.9]])).astype(np.float32)
    >>> labels = np.array([0, 1])
    >>> round(Brier().score(Outcomes(labels=labels, predictions=labels, scores=scores)), 4)
    0.13
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 2.0)

    @property
    def result_name(self) -> str:
        return "Brier"

    def _losses(self, outcomes: Outcomes) -> Float64Array:
        probabilities, own = outcomes.probabilities, of_labels(outcomes)
        others = np.einsum("ij,ij->i", probabilities, probabilities) - own * own
        losses: Float64Array = np.maximum(others, 0.0) + (1.0 - own) ** 2
        return losses / 2 if probabilities.shape[1] == 2 else losses
