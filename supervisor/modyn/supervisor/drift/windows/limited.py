"""What windows of a limited extent have in common."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from pydantic import Field

from modyn.core.arrow import Int64Array
from modyn.core.plugins.drift import Samples, WindowingStrategy, Windows


class LimitedWindows(WindowingStrategy):
    """Windows that hold the newest samples up to some limit.

    A sample that no window has room for is forgotten; so are new samples that neither window will ever need, which is
    why only the larger of the two limits counts for what is kept.
    """

    allow_overlap: bool = Field(
        False, description="Whether the current window keeps the samples that joined the reference."
    )

    @property
    @abstractmethod
    def limits(self) -> tuple[int, int]:
        """Limit of the reference and of the current window."""

    @abstractmethod
    def newest(self, samples: Samples, limit: int, clock: int) -> Int64Array:
        """Positions of the newest samples up to a limit, ascending, int64.

        Args:
            clock: the largest event time seen, Unix seconds.
        """

    def add(self, windows: Windows, samples: Samples) -> Windows:
        if not len(samples):
            return windows
        last = int(samples.timestamps.max())
        clock = last if windows.clock is None else max(windows.clock, last)
        recent = windows.recent.followed_by(samples)
        kept = self.newest(recent, max(self.limits), clock)
        num_old = len(recent) - windows.num_new - len(samples)
        update = {
            "recent_keys": recent.keys[kept],
            "recent_timestamps": recent.timestamps[kept],
            "num_new": int(np.count_nonzero(kept >= num_old)),
            "clock": clock,
        }
        return windows.model_copy(update=update)

    def after_training(self, windows: Windows) -> Windows:
        if windows.clock is None:
            return windows
        recent, reference_limit = windows.recent, self.limits[0]
        reference = windows.reference.followed_by(recent[len(recent) - windows.num_new :])
        kept = self.newest(reference, reference_limit, windows.clock)
        update = {"reference_keys": reference.keys[kept], "reference_timestamps": reference.timestamps[kept]}
        if not self.allow_overlap:
            update |= {"recent_keys": recent.keys[:0], "recent_timestamps": recent.timestamps[:0]}
        return windows.model_copy(update={**update, "num_new": 0})

    def current(self, windows: Windows) -> Samples:
        if windows.clock is None:
            return windows.recent
        return windows.recent[self.newest(windows.recent, self.limits[1], windows.clock)]
