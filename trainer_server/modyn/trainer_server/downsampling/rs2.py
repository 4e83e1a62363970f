"""Repeated sampling of random subsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import Field

from modyn.core.arrow import Int64Array
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Choice, IndexStrategy
from modyn.core.pps import uniform_sample


@DOWNSAMPLING_STRATEGIES.register("RS2")
class RS2(IndexStrategy):
    """Train on another random subset in each epoch.

    Okanovic et al., "Repeated random sampling for minimizing the time-to-accuracy of learning", ICLR 2024 (arXiv
    2305.18424). With replacement, the subset of each epoch is drawn from all samples, whatever the other epochs
    had; in neither way is a sample twice in one epoch. Without replacement, each sample is trained on once before any
    is twice: after any number of epochs two samples differ by at most one in how often they were.

    >>> rs2 = RS2(ratio=40, with_replacement=False)
    >>> epochs = [rs2.choose(5, epoch, np.random.default_rng) for epoch in range(5)]
    >>> np.bincount(np.concatenate([choice.positions for choice in epochs])).tolist()
    [2, 2, 2, 2, 2]
    """

    with_replacement: bool = Field(
        description="Draw the subset of each epoch from all samples (true), or without those of the epochs "
        "before until all were used (false)."
    )
    period: Literal[1] = Field(1, description="Always 1: a subset for each epoch.")
    sample_then_batch: Literal[True] = Field(True, description="Always true.")

    def choose(self, num_samples: int, epoch: int, random: Callable[[int], np.random.Generator]) -> Choice:
        size = self.target_size(num_samples)
        if self.with_replacement:
            return Choice(uniform_sample(num_samples, size, random(epoch)))
        if size <= num_samples // 2:
            return Choice(np.sort(_chunk(num_samples, size, epoch, random)))
        # What is left out goes round in the same way; such chunks are small enough for _chunk.
        kept = np.ones(num_samples, dtype=np.bool_)
        kept[_chunk(num_samples, num_samples - size, epoch, random)] = False
        return Choice(np.flatnonzero(kept))


def _chunk(num_samples: int, size: int, epoch: int, random: Callable[[int], np.random.Generator]) -> Int64Array:
    """The positions of one epoch: a chunk of permutations in a row, in each of which every sample is once.

    A chunk across a border takes the last of one permutation and then those of the next that it does not have yet. As
    no chunk is longer than half a permutation, this changes the order within a permutation's first ``size`` only, not
    among its last: any chunk depends on two permutations at most, however many epochs were before.

    Args:
        num_samples: n.
        size: of a chunk, 0 <= size <= n / 2.
    """
    if size == 0:
        return np.empty(0, dtype=np.int64)
    number, offset = divmod(epoch * size, num_samples)
    here = random(number).permutation(num_samples)
    if offset >= size:  # behind what the chunk across the border before can have changed
        last = here[offset : offset + size]
        missing = size - len(last)
        if missing == 0:
            return last
        following = random(number + 1).permutation(num_samples)
        return np.concatenate((last, _without(following, last)[:missing]))
    if offset > 0:
        before = random(number - 1).permutation(num_samples)[num_samples - (size - offset) :]
        here = _without(here, _without(here, before)[:offset])
    return here[:size]


def _without(order: Int64Array, taken: Int64Array) -> Int64Array:
    """An order of 0 … n - 1 less some of them."""
    free = np.ones(len(order), dtype=np.bool_)
    free[taken] = False
    return order[free[order]]
