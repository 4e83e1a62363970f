"""Retrain whenever so much data time has passed."""

from __future__ import annotations

from time import perf_counter

from pydantic import Field

from modyn.core.durations import Duration, format_duration
from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Finding, Firing, Observer, Step, Trigger
from modyn.supervisor.triggers.spans import SpanState, first_at_or_after, moment_text


class TimeState(SpanState):
    """``next_boundary``: Unix seconds, None before the first sample."""

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
    >>> step = trigger.next_firing(trigger.initial_state(), arrivals, observe=None)
    >>> step.firing.position, step.firing.timestamp, step.state.next_boundary
    (2, 25, 30)
    """

    state_type = TimeState

    every: Duration = Field(description="Data time between two triggers.")
    start_timestamp: int | None = Field(
        None, description="Where the boundaries are counted from, Unix seconds; by default the first sample."
    )

    def fired_by_hand(self, state: TimeState) -> TimeState:
        return TimeState(next_boundary=state.next_boundary)

    def next_firing(self, state: TimeState, arrivals: Arrivals, observe: Observer) -> Step:
        started = perf_counter()
        timestamps = arrivals.timestamps
        if not len(timestamps):
            return Step(state)
        first, boundary = int(timestamps[0]), state.next_boundary
        if boundary is None:
            boundary = (first if self.start_timestamp is None else self.start_timestamp) + self.every
        if not state.pending and first >= boundary:  # the interval is empty: move on without firing
            boundary = self._boundary_after(boundary, first)
        position = first_at_or_after(timestamps, boundary)
        if position is None:
            return Step(state.after(timestamps).model_copy(update={"next_boundary": boundary}))
        timestamp = int(timestamps[position])
        reason = f"{format_duration(self.every)} of data time passed at {moment_text(boundary)}"
        finding = Finding("", float(timestamp - boundary + self.every), float(self.every), decision=True)
        evaluation = state.after(timestamps[:position]).fired(reason, (finding,), started)
        state = TimeState(next_boundary=self._boundary_after(boundary, timestamp))
        return Step(state, Firing(position, timestamp, reason), (evaluation,))

    def _boundary_after(self, boundary: int, timestamp: int) -> int:
        """The first boundary later than a timestamp that has reached ``boundary``."""
        return boundary + self.every * ((timestamp - boundary) // self.every + 1)
