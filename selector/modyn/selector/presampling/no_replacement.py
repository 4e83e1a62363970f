"""Presampling that uses every candidate once before any twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, PresamplingStrategy, Selection, SelectionInput
from modyn.core.randomness import Purpose, generator
from modyn.selector.presampling.everything import BALANCING_KEYS
from modyn.selector.sampling import take
from modyn.selector.strata import Strata
from modyn.selector.used import cycle_groups


@PRESAMPLING_STRATEGIES.register("RandomNoReplacement")
class NoReplacementPresampling(PresamplingStrategy):
    """Keep ``ratio/ratio_max`` of the candidates, ones that earlier training sets lack first; exactly that many.

    Over the triggers of a pipeline, samples are drawn in cycles: each candidate once, uniformly, before any twice.
    Where a cycle has fewer left than are wanted, they are all taken, and the rest is drawn from the others and begins
    the next cycle. New candidates join the present cycle and come before those that an earlier one drew. What warm-up
    triggers trained on counts too.

    >>> NoReplacementPresampling(ratio=25).target_size(1000)
    250
    """

    ignored_keys: ClassVar[Mapping[str, str]] = BALANCING_KEYS

    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        if target >= len(candidates):
            return Selection(candidates)
        groups = cycle_groups(candidates, data.selected)
        strata = Strata(groups, np.bincount(groups, minlength=3))
        before = np.cumsum(strata.counts) - strata.counts
        budgets = np.clip(target - before, 0, strata.counts)
        random = generator(data.seed, Purpose.PRESAMPLING, data.trigger_index)
        return Selection(take(candidates, strata.draw(budgets, random)))
