"""No presampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, PresamplingStrategy, Selection, SelectionInput
from modyn.core.randomness import Purpose
from modyn.selector.sampling import uniform_sample

BALANCING_KEYS: Mapping[str, str] = {
    "force_column_balancing": "it belongs to the balanced strategies",
    "force_required_target_size": "sizes are always exact",
}


@PRESAMPLING_STRATEGIES.register("No")
class NoPresampling(PresamplingStrategy):
    """Keep every candidate; a uniform sample of them where the policy's ``limit`` is smaller.

    >>> NoPresampling().target_size(70)
    70
    """

    ignored_keys: ClassVar[Mapping[str, str]] = BALANCING_KEYS

    ratio: Literal[100] = Field(100, description="Always 100, with ratio_max 100.")
    ratio_max: Literal[100] = Field(100, description="Always 100.")

    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        return Selection(
            uniform_sample(candidates, target, seed=data.seed, purpose=Purpose.PRESAMPLING, index=data.trigger_index)
        )
