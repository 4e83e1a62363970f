"""Choosing what the model is least sure about."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import (
    DOWNSAMPLING_STRATEGIES,
    Candidates,
    Choice,
    Float32Array,
    Score,
    ScoringStrategy,
)
from modyn.trainer_server.downsampling.gradients import finite_scores, per_class
from modyn.trainer_server.downsampling.scores import lowest


class ScoreMetric(StrEnum):
    """How sure a model is about a sample; p are the probabilities of the classes, p1 >= p2 >= …

    >>> probabilities = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]], dtype=np.float32)
    >>> [ScoreMetric(name).certainty(probabilities).round(2).tolist() for name in ScoreMetric]
    [[0.5, 0.4], [-0.69, -1.09], [0.0, 0.1]]
    """

    LEAST_CONFIDENCE = "LeastConfidence"
    ENTROPY = "Entropy"
    MARGIN = "Margin"

    def certainty(self, probabilities: Float32Array) -> npt.NDArray[np.float64]:
        """p1, the negative entropy Σ p·ln p, or p1 - p2: lowest for the samples the model is least sure about.

        Args:
            probabilities: float32 [n, classes].

        Returns:
            float64 [n].
        """
        match self:
            case ScoreMetric.LEAST_CONFIDENCE:
                return np.asarray(probabilities.max(axis=1, initial=0.0), dtype=np.float64)
            case ScoreMetric.ENTROPY:
                logs = np.log(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
                return np.asarray(np.einsum("ij,ij->i", probabilities, logs, dtype=np.float64))
            case ScoreMetric.MARGIN:
                if probabilities.shape[1] < 2:
                    return np.asarray(probabilities.sum(axis=1), dtype=np.float64)
                two = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float64)
                return np.subtract(two[:, 1], two[:, 0])
        assert_never(self)


@DOWNSAMPLING_STRATEGIES.register("Uncertainty")
class Uncertainty(ScoringStrategy):
    """Choose the samples that the model is least sure about.

    Least confidence, margin and entropy of the predicted probabilities as in Settles, "Active learning literature
    survey", 2009, section 3.1. Of samples that tie, some are drawn.

    >>> probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]], dtype=np.float32)
    >>> candidates = Candidates(np.zeros(3, dtype=np.int64), probabilities=probabilities)
    >>> strategy = Uncertainty(ratio=67, score_metric="Margin")
    >>> strategy.choose(candidates, 2, np.random.default_rng(0)).positions.tolist()
    [1, 2]
    """

    score_metric: ScoreMetric = Field(
        description="What is lowest for the chosen: the highest probability (LeastConfidence), the negative entropy "
        "(Entropy), or the difference of the two highest probabilities (Margin).",
    )
    balance: bool = Field(False, description="Choose from each class its share of the samples, instead of from all.")

    @property
    def needs(self) -> tuple[Score, ...]:
        return (Score.PROBABILITIES,)

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        probabilities = finite_scores(candidates.probabilities, Score.PROBABILITIES)
        _check_range(probabilities)
        certainty = self.score_metric.certainty(probabilities)
        if not self.balance:
            return Choice(lowest(certainty, size, random))
        chosen = [
            places[lowest(certainty[places], budget, random)] for places, budget in per_class(candidates, size, random)
        ]
        return Choice(np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen])))


def _check_range(probabilities: Float32Array) -> None:
    """
    Raises:
        InvalidInputError: these are not probabilities; a ranking by raw outputs of a model would be another one.
    """
    low, high = float(probabilities.min(initial=0.0)), float(probabilities.max(initial=0.0))
    if low < 0 or high > 1:
        raise InvalidInputError(f"probabilities: expected numbers from 0 to 1, got {low} to {high}")
