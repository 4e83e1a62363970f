"""Facility location, graph cut and log-determinant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from modyn.core.arrow import Int64Array
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice
from modyn.trainer_server.downsampling.gradients import (
    GREEDY_TEXT,
    SELECTION_BATCH,
    GradientStrategy,
    Greedy,
    gradient_features,
    merged,
    per_class,
)
from modyn.trainer_server.greedy.facility import facility_location
from modyn.trainer_server.greedy.graph_cut import graph_cut
from modyn.trainer_server.greedy.log_determinant import log_determinant
from modyn.trainer_server.greedy.similarity import CosineSimilarity


@DOWNSAMPLING_STRATEGIES.register("Submodular")
class Submodular(GradientStrategy):
    """Samples whose gradients stand for all, or differ from each other, by greedily maximising a submodular function.

    Two gradients are similar by ``(1 + cos) / 2`` of the angle between them; a gradient that is zero, to all by 1/2.
    Functions of the chosen samples S:

    - ``FacilityLocation``: ``Σᵢ max_{j ∈ S} sᵢⱼ``, each sample has a similar one (Nemhauser, Wolsey, Fisher 1978);
    - ``GraphCut``: ``Σᵢ Σ_{j ∈ S} sᵢⱼ - Σ_{i, j ∈ S} sᵢⱼ``, similar to all, not to each other (Iyer et al. 2021);
    - ``LogDeterminant``: ``log det(K + 0.001 I)``, K their similarities: unlike each other (Chen et al. 2018).

    The chosen samples are not weighted.

    >>> gradients = np.array([[1, 0], [9, 1], [0, 1], [-1, 0]], dtype=np.float32)
    >>> candidates = Candidates(np.zeros(4, dtype=np.int64), gradients=gradients)
    >>> strategy = Submodular(ratio=50, submodular_function="LogDeterminant")
    >>> strategy.choose(candidates, 2, np.random.default_rng(0)).positions.tolist()
    [0, 3]
    """

    ignored_keys: ClassVar[Mapping[str, str]] = SELECTION_BATCH

    submodular_function: Literal["FacilityLocation", "GraphCut", "LogDeterminant"] = Field(
        description="What is maximised."
    )
    submodular_optimizer: Greedy = Field("NaiveGreedy", description=GREEDY_TEXT)
    balance: bool = Field(
        False, description="Choose per class, each in proportion to its samples (true), or among all at once."
    )

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        features = gradient_features(candidates, self.full_grad_approximation)
        groups = per_class(candidates, size, random) if self.balance else [(np.arange(len(candidates)), size)]
        return merged(
            [
                Choice(np.sort(members[self._maximise(CosineSimilarity(features.take(members)), budget)]))
                for members, budget in groups
                if budget > 0
            ]
        )

    def _maximise(self, similarity: CosineSimilarity, size: int) -> Int64Array:
        match self.submodular_function:
            case "FacilityLocation":
                return facility_location(similarity, size).positions
            case "GraphCut":
                return graph_cut(similarity, size)
            case "LogDeterminant":
                return log_determinant(similarity, size)
