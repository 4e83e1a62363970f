"""Retrain whenever so much data time has passed."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from pydantic import Field

from modyn.core.arrow import Int64Array
from modyn.core.durations import Duration, format_duration
from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Firing, Trigger, TriggerState

FIRST_BLOCK = 1024
"""Samples looked at first when searching a boundary; doubled while nothing is found, so that a search costs
what it skips and not what it is given."""


class TimeState(TriggerState):
    """``pending``: samples since the last firing; ``next_boundary``: Unix seconds, None before the first sample."""

    pending: int = 0
    next_boundary: int | None = None


@TRIGGERS.register("TimeTrigger")
class TimeTrigger(Trigger):
    """Fires when ``every`` has passed on the data clock (the largest event time seen), never on wall time.

    Boundaries lie at ``start + k * every``; ``start`` is ``start_timestamp`` or the first sample's event time. The
    trigger fires when the first sample at or after a boundary arrives; that sample belongs to the next interval. A
    late sample belongs to the interval in which it arrives. An interval without samples does not fire.

    >>> import numpy as np
    >>> trigger = TimeTrigger(every="10s")
    >>> arrivals = Arrivals(keys=np.arange(4), timestamps=np.array([0, 9, 25, 26]))
    >>> state, firing = trigger.next_firing(trigger.initial_state(), arrivals)
    >>> firing.position, firing.timestamp, state.next_boundary
    (2, 25, 30)
    """

    state_type = TimeState

    every: Duration = Field(description="Data time between two triggers.")
    start_timestamp: int | None = Field(
        None, description="Where the boundaries are counted from, Unix seconds; by default the first sample."
    )

    def next_firing(self, state: TimeState, arrivals: Arrivals) -> tuple[TimeState, Firing | None]:
        timestamps = arrivals.timestamps
        if len(timestamps) == 0:
            return state, None
        boundary = state.next_boundary
        if boundary is None:
            start = int(timestamps[0]) if self.start_timestamp is None else self.start_timestamp
            boundary = start + self.every
        position = _first_at_or_after(timestamps, boundary)
        if position == 0 and state.pending == 0:  # the interval is empty: move on without firing
            boundary = self._boundary_after(boundary, int(timestamps[0]))
            position = _first_at_or_after(timestamps, boundary)
        if position is None:
            return TimeState(pending=state.pending + len(timestamps), next_boundary=boundary), None
        timestamp = int(timestamps[position])
        reason = f"{format_duration(self.every)} of data time passed at {_moment(boundary)}"
        state = TimeState(next_boundary=self._boundary_after(boundary, timestamp))
        return state, Firing(position, timestamp, reason)

    def _boundary_after(self, boundary: int, timestamp: int) -> int:
        """The first boundary later than a timestamp that has reached ``boundary``."""
        return boundary + self.every * ((timestamp - boundary) // self.every + 1)


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # no year of ours, such as milliseconds taken for seconds
        return str(seconds)


def _first_at_or_after(timestamps: Int64Array, boundary: int) -> int | None:
    """Position of the first timestamp >= boundary in a column that need not be sorted."""
    start, size = 0, FIRST_BLOCK
    while start < len(timestamps):
        reached = timestamps[start : start + size] >= boundary
        offset = int(np.argmax(reached))
        if reached[offset]:
            return start + offset
        start += size
        size *= 2
    return None
