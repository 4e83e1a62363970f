"""InfoBatch: leaving out samples of low loss, without a pass for scores."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Choice, Float32Array, PruningStrategy
from modyn.core.pps import uniform_sample


@DOWNSAMPLING_STRATEGIES.register("InfoBatch")
class InfoBatch(PruningStrategy):
    """Leave out a random part of the samples whose last loss in training is below the mean, and weigh the rest of
    them up.

    Qin et al., "InfoBatch: lossless training speed up by unbiased dynamic data pruning", ICLR 2024 (arXiv
    2303.04947). In each epoch, of the samples whose last known loss is below the mean of the known losses,
    ``ratio/ratio_max`` are kept (drawn anew, rounded down, at least one) and weigh the inverse of the share kept;
    ``1 - ratio/ratio_max`` is the paper's r. All others, and those without a loss yet, are kept with weight 1. How many
    are pruned is exact, so that the weights add up to the number of samples; the paper prunes each independently.

    Weights are not 1 on average but samples / kept: the gradient of a batch is the plain mean over the batch of
    weighted gradients, as in the paper (section 3.3). An epoch has fewer steps, but the expectation of the sum of its
    gradients is that of an epoch over all samples. Likewise, ``ratio`` is not the share trained on, which depends on
    how many losses are below the mean, and is higher.

    >>> losses = np.array([0.1, 0.1, 0.1, 0.1, 5.0, np.nan], dtype=np.float32)
    >>> choice = InfoBatch(ratio=50).prune(losses, 1, 10, np.random.default_rng(0))
    >>> len(choice), choice.weights.tolist()
    (4, [2.0, 2.0, 1.0, 1.0])
    """

    annealing: float = Field(
        0.875,
        ge=0,
        le=1,
        description="Share of the epochs in which samples are left out (δ in the paper): an epoch that begins after "
        "it trains on all, which removes what variance is left. With the default, these are the last "
        "eighth of the epochs, rounded down.",
    )

    def prune(self, losses: Float32Array, epoch: int, epochs: int, random: np.random.Generator) -> Choice:
        everything = np.arange(len(losses), dtype=np.int64)
        known = ~np.isnan(losses)
        if epoch >= round(self.annealing * epochs, 6) or not known.any():
            return Choice(everything)
        infinite = np.count_nonzero(np.isinf(losses))
        if infinite:
            raise InvalidInputError(
                f"InfoBatch: {infinite} of {len(losses)} losses are infinite; expected finite numbers: "
                "has the training diverged?"
            )
        mean = losses.mean(dtype=np.float64, where=known)
        low = np.flatnonzero(losses < mean)  # false for unknown ones
        if len(low) == 0:
            return Choice(everything)
        num_kept = self.target_size(len(low))
        kept = np.ones(len(losses), dtype=np.bool_)
        kept[low] = False
        kept[low[uniform_sample(len(low), num_kept, random)]] = True
        weights = np.ones(len(losses), dtype=np.float32)
        weights[low] = len(low) / num_kept
        return Choice(everything[kept], weights[kept])
