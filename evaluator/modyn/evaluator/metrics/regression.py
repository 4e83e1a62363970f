"""What metrics of numbers share."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np

from modyn.core.arrow import Int64Array, slices
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import DecomposableMetric, Float64Array, Outcomes
from modyn.evaluator.sums import ratio, sum_stretches

_CHUNK_ELEMENTS = 1 << 18
"""Numbers worked on at once, to bound memory."""


class RegressionMetric(DecomposableMetric):
    """A metric of the model's raw outputs [n, k] against labels that are numbers [n, k]."""

    labels_are: ClassVar[Literal["classes", "numbers"]] = "numbers"

    @property
    def needs_scores(self) -> bool:
        return True


class MeanError(RegressionMetric):
    """The mean over samples and outputs of an error."""

    greater_is_better: ClassVar[bool] = False
    is_mean: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float] | None] = (0.0, np.inf)

    @abstractmethod
    def _errors(self, differences: Float64Array) -> Float64Array:
        """From outputs minus labels, [n, k]; the same shape."""

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        targets, outputs = targets_and_outputs(self.plugin_name, outcomes)
        means = np.empty(len(targets))
        for part in slices(len(targets), max(1, _CHUNK_ELEMENTS // targets.shape[1])):
            means[part] = self._errors(outputs[part] - targets[part]).mean(axis=1)
        return np.stack([np.diff(edges).astype(np.float64), sum_stretches(means, edges)], axis=1)

    def values(self, statistics: Float64Array) -> Float64Array:
        return ratio(statistics[..., 1], statistics[..., 0])


def targets_and_outputs(metric: str, outcomes: Outcomes) -> tuple[Float64Array, Float64Array]:
    """Labels and outputs as numbers, float64 [n, k] each; classes where there are no other numbers.

    Raises:
        InvalidInputError: their shapes differ; the message names the metric.
    """
    scores = outcomes.scores
    if scores is None:
        raise InvalidInputError(f"metric {metric}: there are no scores; expected the model's outputs")
    targets = outcomes.labels[:, None].astype(np.float64) if outcomes.targets is None else outcomes.targets
    if targets.shape != scores.shape:
        raise InvalidInputError(
            f"metric {metric}: the model has {scores.shape[1]} outputs, but a label has {targets.shape[1]} numbers; "
            "expected as many of both"
        )
    return targets, scores.astype(np.float64)
