"""Uniform presampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, PresamplingStrategy, Selection, SelectionInput
from modyn.core.randomness import Purpose
from modyn.selector.presampling.everything import BALANCING_KEYS
from modyn.selector.sampling import uniform_sample


@PRESAMPLING_STRATEGIES.register("Random")
class UniformPresampling(PresamplingStrategy):
    """Keep ``ratio/ratio_max`` of the candidates, drawn uniformly without replacement; exactly that many.

    >>> UniformPresampling(ratio=125, ratio_max=1000).target_size(100)
    12
    """

    ignored_keys: ClassVar[Mapping[str, str]] = BALANCING_KEYS

    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        return Selection(
            uniform_sample(candidates, target, seed=data.seed, purpose=Purpose.PRESAMPLING, index=data.trigger_index)
        )
