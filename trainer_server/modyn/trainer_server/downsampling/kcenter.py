"""Covering the training set with centers."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from modyn.core.arrow import Int64Array
from modyn.core.plugins.downsampling import (
    DOWNSAMPLING_STRATEGIES,
    Candidates,
    Choice,
    Float32Array,
    Score,
    ScoringStrategy,
)
from modyn.trainer_server.downsampling.gradients import finite_scores, merged, per_class
from modyn.trainer_server.greedy.kcenter import kcenter_greedy


@DOWNSAMPLING_STRATEGIES.register("KcenterGreedy")
class KcenterGreedy(ScoringStrategy):
    """Choose samples so that every other one is near a chosen one.

    The first one is drawn; then it is always the sample that is farthest, in the Euclidean distance of embeddings, from
    its nearest chosen one (Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical
    Computer Science 1985; Sener and Savarese, "Active learning for convolutional neural networks: a core-set
    approach", ICLR 2018). The largest distance that is left is at most twice the least possible. Without weights:
    samples that are unlike all others are chosen first, so few chosen ones are not like the training set.

    >>> embeddings = np.array([[0], [0.1], [5], [5.1]], dtype=np.float32)
    >>> candidates = Candidates(np.zeros(4, dtype=np.int64), embeddings=embeddings)
    >>> choice = KcenterGreedy(ratio=50).choose(candidates, 2, np.random.default_rng(0))
    >>> bool((embeddings[choice.positions] < 1).sum() == 1)
    True
    """

    balance: bool = Field(
        False, description="Choose within each class, in proportion to its samples, rather than among all of them."
    )

    @property
    def needs(self) -> tuple[Score, ...]:
        return (Score.EMBEDDINGS,)

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        """``size`` of the candidates.

        Raises:
            InvalidInputError: an embedding is missing, infinite or not a number.
        """
        embeddings = finite_scores(candidates.embeddings, Score.EMBEDDINGS)
        if not self.balance:
            return Choice(_centers(embeddings, size, random))
        return merged(
            [
                Choice(positions[_centers(embeddings[positions], budget, random)])
                for positions, budget in per_class(candidates, size, random)
                if budget
            ]
        )


def _centers(embeddings: Float32Array, size: int, random: np.random.Generator) -> Int64Array:
    if size in (0, len(embeddings)):
        return np.arange(size, dtype=np.int64)
    return np.sort(kcenter_greedy(embeddings, size, first=int(random.integers(len(embeddings)))))
