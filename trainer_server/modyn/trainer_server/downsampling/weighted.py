"""Importance sampling: choosing in proportion to scores, with weights that keep the loss unbiased."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modyn.core.plugins.downsampling import Candidates, Choice, ScoringStrategy
from modyn.core.pps import inclusion_probabilities, systematic_sample


class ImportanceSampling(ScoringStrategy):
    """Chooses each sample with a probability π in proportion to its score, capped at 1, and weighs it by
    size / (n · π): the expectation of the mean weighted loss of the chosen is the mean loss of all.

    Drawn by systematic sampling, whose inclusion probabilities are exact without replacement
    (:mod:`modyn.core.pps`). Weights are 1 on average over draws, and at most 1 / ``floor``.
    """

    floor: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of the sampling probabilities that is the same for all samples. It bounds the weights by "
        "1/floor, and samples with score 0 are chosen, too; 1: uniform sampling.",
    )

    @abstractmethod
    def scores(self, candidates: Candidates) -> npt.NDArray[np.float64]:
        """What probabilities are in proportion to, float64 [n], at least 0."""

    @property
    @abstractmethod
    def score_name(self) -> str:
        """What a score is called in messages."""

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        scores = self.scores(candidates)
        probabilities = inclusion_probabilities(scores, size, floor=self.floor, what=self.score_name)
        positions = systematic_sample(probabilities, random)
        weights = size / (max(len(candidates), 1) * probabilities[positions])
        return Choice(positions, weights.astype(np.float32))
