"""Losses of class probabilities, sample by sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from modyn.core.arrow import Int64Array, slices
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array, Outcomes
from modyn.evaluator.metrics.classification import DecomposableClassificationMetric
from modyn.evaluator.sums import ratio, sum_stretches

_CHUNK_ELEMENTS = 1 << 18
"""Probabilities computed at once, to bound memory."""


class ProbabilityLoss(DecomposableClassificationMetric):
    """The mean of a loss that each sample has for the probabilities of its classes."""

    greater_is_better: ClassVar[bool] = False
    is_mean: ClassVar[bool] = True

    @property
    def _takes_scores(self) -> bool:
        return True

    @abstractmethod
    def _losses(self, outcomes: Outcomes) -> Float64Array:
        """Of each sample, float64 [n]; NaN where a score is no number."""

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        losses = np.empty(len(outcomes))
        for rows, part in chunks(self.plugin_name, outcomes):
            losses[rows] = self._losses(part)
        return np.stack([np.diff(edges).astype(np.float64), sum_stretches(losses, edges)], axis=1)

    def values(self, statistics: Float64Array) -> Float64Array:
        return ratio(statistics[..., 1], statistics[..., 0])


def chunks(metric: str, outcomes: Outcomes) -> Iterator[tuple[slice, Outcomes]]:
    """Outcomes in pieces whose probabilities fit into little memory.

    Raises:
        InvalidInputError: they have no scores; the message names the metric.
    """
    if outcomes.scores is None:
        raise InvalidInputError(f"metric {metric}: there are no scores; expected the model's outputs")
    rows = max(1, _CHUNK_ELEMENTS // max(1, outcomes.scores.shape[1]))
    for part in slices(len(outcomes), rows):
        yield part, Outcomes(outcomes.labels[part], outcomes.predictions[part], outcomes.scores[part])


def of_labels(outcomes: Outcomes) -> Float64Array:
    """The probability of each sample's label, float64 [n]; zero for a label that is no class of the model, NaN where
    scores are no numbers."""
    probabilities = outcomes.probabilities
    known = (outcomes.labels >= 0) & (outcomes.labels < probabilities.shape[1])
    own = probabilities[np.arange(len(outcomes)), np.where(known, outcomes.labels, 0)]
    return np.where(known | np.isnan(own), own, 0.0)
