"""CRAIG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice
from modyn.trainer_server.downsampling.gradients import (
    GREEDY_TEXT,
    SELECTION_BATCH,
    GradientStrategy,
    Greedy,
    gradient_features,
    mean_one,
    per_class,
)
from modyn.trainer_server.greedy.craig import craig


@DOWNSAMPLING_STRATEGIES.register("Craig")
class Craig(GradientStrategy):
    """Per class, samples whose gradients are near to those of all, weighted by how many each stands for.

    Mirzasoleiman, Bilmes, Leskovec: "Coresets for data-efficient training of machine learning models", ICML 2020.
    Classes get budgets in proportion to their samples. In each, greedy facility location makes the sum of the
    Euclidean distances to the nearest chosen gradient small; the weight of a chosen sample is the number of samples
    that it is nearest to, itself included, divided by the average of these numbers. Samples of classes too small for
    a budget count for the nearest chosen sample of any class.

    >>> gradients = np.array([[0], [1], [2], [10]], dtype=np.float32)
    >>> candidates = Candidates(np.zeros(4, dtype=np.int64), gradients=gradients)
    >>> choice = Craig(ratio=50).choose(candidates, 2, np.random.default_rng(0))
    >>> choice.positions.tolist(), choice.weights.tolist()
    ([1, 3], [1.5, 0.5])
    """

    ignored_keys: ClassVar[Mapping[str, str]] = {**SELECTION_BATCH, "balance": "CRAIG always chooses per class"}

    greedy: Greedy = Field("NaiveGreedy", description=GREEDY_TEXT)

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        features = gradient_features(candidates, self.full_grad_approximation)
        medoids = craig(features, per_class(candidates, size, random))
        return Choice(medoids.positions, mean_one(medoids.sizes.astype(np.float32)))
