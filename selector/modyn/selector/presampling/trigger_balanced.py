"""Presampling that evens out triggers."""

from __future__ import annotations

from typing import ClassVar

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, Selection, SelectionInput
from modyn.selector.presampling.balancing import BalancedPresampling
from modyn.selector.strata import Strata


@PRESAMPLING_STRATEGIES.register("TriggerBalanced")
class TriggerBalancedPresampling(BalancedPresampling):
    """Keep ``ratio/ratio_max`` of the candidates, as equally many of each trigger as there are; exactly that many.

    Triggers with fewer samples than an equal share are kept whole, and the others share what is left; which samples of
    a trigger is drawn uniformly without replacement. It needs ``tail_triggers`` null or above 0.

    >>> TriggerBalancedPresampling(ratio=50).target_size(101)
    50
    """

    over_triggers: ClassVar[bool] = True

    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        strata = Strata.runs([len(entry.keys) for entry in data.history if len(entry.keys)])
        return self.balanced(data, candidates, strata, target)
