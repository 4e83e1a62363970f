"""Windows of so many samples."""

from __future__ import annotations

import numpy as np
from pydantic import Field, PositiveInt

from modyn.core.arrow import Int64Array
from modyn.core.plugins.drift import WINDOWING_STRATEGIES, Samples
from modyn.supervisor.drift.windows.limited import LimitedWindows


@WINDOWING_STRATEGIES.register("AmountWindowingStrategy")
class AmountWindowingStrategy(LimitedWindows):
    """Compares the last ``amount_cur`` samples with ``amount_ref`` samples that the model was trained on.

    Without overlap: samples that the current window has no room for wait in a reservoir of
    max(0, amount_ref - amount_cur). After a training the reference is the last ``amount_ref`` of reference, reservoir
    and current window, in that order; the other two are emptied. With overlap: after a training the samples that came
    since the last one join the reference, which keeps its last ``amount_ref``, and the current window stays as it is.

    >>> import numpy as np
    >>> from modyn.core.plugins.drift import Windows
    >>> strategy = AmountWindowingStrategy(amount_ref=4, amount_cur=2)
    >>> windows = strategy.add(Windows(), Samples(np.arange(5), np.arange(5)))
    >>> strategy.current(windows).keys.tolist()
    [3, 4]
    >>> windows = strategy.after_training(windows)
    >>> windows.reference.keys.tolist(), strategy.current(windows).keys.tolist()
    ([1, 2, 3, 4], [])
    """

    amount_ref: PositiveInt = Field(1000, description="Samples in the reference window.")
    amount_cur: PositiveInt = Field(1000, description="Samples in the current window.")

    @property
    def limits(self) -> tuple[int, int]:
        return self.amount_ref, self.amount_cur

    def newest(self, samples: Samples, limit: int, clock: int) -> Int64Array:
        return np.arange(max(0, len(samples) - limit), len(samples))
