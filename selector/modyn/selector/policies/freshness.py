"""Training on a fixed share of data that were never trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput
from modyn.selector.policies.base import TailPolicy
from modyn.selector.sampling import take
from modyn.selector.strata import Strata
from modyn.selector.used import used_before


@SELECTION_POLICIES.register("FreshnessSamplingStrategy")
class FreshnessSamplingStrategy(TailPolicy):
    """Train on a fixed share of samples that this pipeline has not trained on, and fill up with ones that it has.

    The training set is the largest one with that share: of U unused and V used samples and a share of r %, it has
    min(U · 100/r, V · 100/(100 - r)) samples, rounded down, or ``limit``; both parts are uniform samples without
    replacement. While nothing has been used, as at the first trigger, it is everything. Used is what was in any earlier
    training set of the pipeline, so what other pipelines did does not matter.

    >>> FreshnessSamplingStrategy(unused_data_ratio=80).parts(num_used=1000, num_unused=40)
    (10, 40)
    """

    unused_data_ratio: int = Field(ge=1, le=99, description="Share of unused samples in a training set, in per cent.")
    tail_triggers: None = Field(None, description="Always null: it selects from everything so far.")

    @field_validator("tail_triggers", mode="before")
    @classmethod
    def _check_tail(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("expected null: it selects from everything so far")
        return value

    def parts(self, num_used: int, num_unused: int) -> tuple[int, int]:
        """How many used and unused samples to train on."""
        ratio = self.unused_data_ratio
        if num_used == 0:
            return 0, self.limited(num_unused)
        by_unused, by_used = num_unused * 100 // ratio, num_used * 100 // (100 - ratio)
        total = min(by_unused, by_used)
        if self.limit is not None and total > self.limit:
            unused = self.limit * ratio // 100
            return self.limit - unused, unused
        return (num_used, total - num_used) if by_unused > by_used else (total - num_unused, num_unused)

    def select(self, data: SelectionInput) -> Selection:
        candidates = KeySet.concat(entry.keys for entry in data.history)
        strata = Strata.split(used_before(candidates, data.selected))
        num_unused, num_used = strata.counts.tolist()
        used, unused = self.parts(num_used, num_unused)
        if used + unused == len(candidates):
            return Selection(candidates)
        return Selection(take(candidates, strata.draw(np.array([unused, used]), self.random(data))))
