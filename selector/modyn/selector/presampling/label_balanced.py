"""Presampling that evens out classes."""

from __future__ import annotations

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, Selection, SelectionInput
from modyn.selector.presampling.balancing import BalancedPresampling
from modyn.selector.strata import label_strata


@PRESAMPLING_STRATEGIES.register("LabelBalanced")
class LabelBalancedPresampling(BalancedPresampling):
    """Keep ``ratio/ratio_max`` of the candidates, as equally many of each label as there are; exactly that many.

    Labels with fewer samples than an equal share are kept whole, and the others share what is left. Which samples of a
    label is drawn uniformly without replacement. Samples with several labels each are an error.

    >>> import numpy as np
    >>> LabelBalancedPresampling(ratio=50).budgets(np.array([5, 5, 100]), 60).tolist()
    [5, 5, 50]
    >>> LabelBalancedPresampling(ratio=50, force_column_balancing=True).budgets(np.array([5, 5, 100]), 60).tolist()
    [5, 5, 5]
    """

    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        strata, _, _ = label_strata(data.columns, candidates)
        return self.balanced(data, candidates, strata, target)
