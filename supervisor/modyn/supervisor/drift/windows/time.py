"""Windows of so much data time."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from modyn.core.arrow import Int64Array
from modyn.core.durations import Duration
from modyn.core.plugins.drift import WINDOWING_STRATEGIES, Samples
from modyn.supervisor.drift.windows.limited import LimitedWindows


@WINDOWING_STRATEGIES.register("TimeWindowingStrategy")
class TimeWindowingStrategy(LimitedWindows):
    """Compares the samples of the last ``limit_cur`` of data time with those that the model was trained on.

    Time is counted back from the largest event time seen, both ends included: a sample at ``clock - limit`` is in. So a
    late sample is in the window that its event time belongs to, or in none. Without overlap: samples too old for the
    current window wait in a reservoir as long as they are younger than ``limit_ref``; after a training the reference is
    reference, reservoir and current window, cut to ``limit_ref`` before the newest of them, and the other two are
    emptied. With overlap: after a training the samples that came since the last one join the reference, and the
    current window stays as it is. Between trainings the reference does not age.

    >>> import numpy as np
    >>> from modyn.core.plugins.drift import Windows
    >>> strategy = TimeWindowingStrategy(limit_ref="30s", limit_cur="10s")
    >>> windows = strategy.add(Windows(), Samples(np.arange(5), np.array([0, 15, 30, 40, 45])))
    >>> strategy.current(windows).keys.tolist()
    [3, 4]
    >>> windows = strategy.after_training(windows)
    >>> windows.reference.keys.tolist(), strategy.current(windows).keys.tolist()
    ([1, 2, 3, 4], [])
    """

    limit_ref: Duration = Field(description="Data time that the reference window spans.")
    limit_cur: Duration = Field(description="Data time that the current window spans.")

    @property
    def limits(self) -> tuple[int, int]:
        return self.limit_ref, self.limit_cur

    def newest(self, samples: Samples, limit: int, clock: int) -> Int64Array:
        return np.flatnonzero(samples.timestamps >= clock - limit)
