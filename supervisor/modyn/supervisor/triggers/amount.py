"""Retrain every so many samples."""

from __future__ import annotations

from time import perf_counter

from pydantic import Field, PositiveInt

from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Finding, Firing, Observer, Step, Trigger
from modyn.supervisor.triggers.spans import SpanState


class AmountState(SpanState):
    """Of the samples since the last firing."""


@TRIGGERS.register("DataAmountTrigger")
class DataAmountTrigger(Trigger):
    """Fires every ``num_samples`` new samples; the sample that completes the number belongs to the trigger.

    >>> import numpy as np
    >>> trigger = DataAmountTrigger(num_samples=3)
    >>> arrivals = Arrivals(keys=np.arange(5), timestamps=np.array([10, 20, 30, 40, 50]))
    >>> step = trigger.next_firing(trigger.initial_state(), arrivals, observe=None)
    >>> step.firing.position, step.firing.timestamp
    (3, 30)
    """

    state_type = AmountState

    num_samples: PositiveInt = Field(description="How many new samples make a trigger.")

    def fired_by_hand(self, state: AmountState) -> AmountState:
        return AmountState()

    def next_firing(self, state: AmountState, arrivals: Arrivals, observe: Observer) -> Step:
        started = perf_counter()
        missing = self.num_samples - state.pending
        if len(arrivals) < missing:
            return Step(state.after(arrivals.timestamps))
        reason = f"{self.num_samples:,} new samples"
        count = float(self.num_samples)
        evaluation = state.after(arrivals.timestamps[:missing]).fired(
            reason, (Finding("", count, count, decision=True),), started
        )
        return Step(AmountState(), Firing(missing, int(arrivals.timestamps[missing - 1]), reason), (evaluation,))
