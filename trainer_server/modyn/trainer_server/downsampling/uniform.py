"""A uniform sample of the training set, drawn in the training job."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field, NonNegativeInt

from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Choice, IndexStrategy
from modyn.core.pps import uniform_sample


@DOWNSAMPLING_STRATEGIES.register("Uniform")
class Uniform(IndexStrategy):
    """Train on a uniform sample of the training set, drawn anew every few epochs.

    A baseline for other strategies: the same number of samples trained on, chosen without a look at them. Under an
    equal compute budget little is better (Prabhu et al., "Computationally budgeted continual learning: what does
    matter?", CVPR 2023).

    >>> choice = Uniform(ratio=50).choose(10, 0, np.random.default_rng)
    >>> len(choice), choice.weights is None
    (5, True)
    """

    period: NonNegativeInt = Field(1, description="Draw again every so many epochs; 0: once at each trigger.")

    def choose(self, num_samples: int, epoch: int, random: Callable[[int], np.random.Generator]) -> Choice:
        draw = epoch // self.period if self.period else 0
        return Choice(uniform_sample(num_samples, self.target_size(num_samples), random(draw)))
