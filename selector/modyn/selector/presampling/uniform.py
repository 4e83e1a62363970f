"""Uniform presampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, PresamplingStrategy, Selection, SelectionInput
from modyn.core.randomness import Purpose, generator
from modyn.selector.presampling.everything import BALANCING_KEYS
from modyn.selector.sampling import sample_with_replacement, uniform_sample


@PRESAMPLING_STRATEGIES.register("Random")
class UniformPresampling(PresamplingStrategy):
    """Keep ``ratio/ratio_max`` of the candidates, drawn uniformly; exactly that many.

    Without replacement by default. With it each draw may give any candidate, so that some are in the training set
    several times.

    >>> UniformPresampling(ratio=125, ratio_max=1000).target_size(100)
    12
    """

    ignored_keys: ClassVar[Mapping[str, str]] = BALANCING_KEYS

    with_replacement: bool = Field(False, description="Draw from all candidates each time: a sample may come again.")

    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        if self.with_replacement:
            random = generator(data.seed, Purpose.PRESAMPLING, data.trigger_index)
            return Selection(sample_with_replacement(candidates, target, random))
        return Selection(
            uniform_sample(candidates, target, seed=data.seed, purpose=Purpose.PRESAMPLING, index=data.trigger_index)
        )
