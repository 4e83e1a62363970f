"""What the balanced presampling strategies share: how many samples of each group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from modyn.core.apportion import equal_budgets
from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PresamplingStrategy, Selection, SelectionInput
from modyn.core.randomness import Purpose, generator
from modyn.selector.sampling import Generator, take
from modyn.selector.strata import Strata


class BalancedPresampling(PresamplingStrategy):
    """Draws as equally from groups as their sizes allow; which get one more, where not all can, is drawn too."""

    ignored_keys: ClassVar[Mapping[str, str]] = {"force_required_target_size": "sizes are always exact"}

    force_column_balancing: bool = Field(
        False,
        description="Take the same number from each group, at most that of the smallest one, even if that is fewer "
        "samples than the ratio asks for.",
    )

    def budgets(self, counts: Int64Array, target: int, random: Generator | None = None) -> Int64Array:
        """How many to take of each group, int64 [g].

        Args:
            counts: samples in each group, int64 [g], above 0.
            random: decides which groups get one more where not all can; None: the first ones.
        """
        if self.force_column_balancing and 0 < len(counts) <= target:
            return np.full(len(counts), min(int(counts.min()), target // len(counts)))
        return equal_budgets(counts, target, random)

    def balanced(self, data: SelectionInput, candidates: KeySet, strata: Strata, target: int) -> Selection:
        """The training set, given the groups of the candidates."""
        random = generator(data.seed, Purpose.PRESAMPLING, data.trigger_index)
        ties = generator(data.seed, Purpose.BUDGETS, data.trigger_index)
        budgets = self.budgets(strata.counts, min(target, len(candidates)), ties)
        return Selection(take(candidates, strata.draw(budgets, random)))
