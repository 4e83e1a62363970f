"""Retrain every so many samples."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Firing, Trigger, TriggerState


class AmountState(TriggerState):
    """``pending``: samples seen since the last firing."""

    pending: int = 0


@TRIGGERS.register("DataAmountTrigger")
class DataAmountTrigger(Trigger):
    """Fires every ``num_samples`` new samples; the sample that completes the number belongs to the trigger.

    >>> import numpy as np
    >>> trigger = DataAmountTrigger(num_samples=3)
    >>> arrivals = Arrivals(keys=np.arange(5), timestamps=np.array([10, 20, 30, 40, 50]))
    >>> state, firing = trigger.next_firing(trigger.initial_state(), arrivals)
    >>> firing.position, firing.timestamp
    (3, 30)
    """

    state_type = AmountState

    num_samples: PositiveInt = Field(description="How many new samples make a trigger.")

    def next_firing(self, state: AmountState, arrivals: Arrivals) -> tuple[AmountState, Firing | None]:
        missing = self.num_samples - state.pending
        if len(arrivals) < missing:
            return AmountState(pending=state.pending + len(arrivals)), None
        timestamp = int(arrivals.timestamps[missing - 1])
        return AmountState(), Firing(missing, timestamp, f"{self.num_samples:,} new samples")
