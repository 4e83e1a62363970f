"""Retrain only when somebody says so."""

from __future__ import annotations

from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Observer, Step, Trigger, TriggerState


@TRIGGERS.register("ManualTrigger")
class ManualTrigger(Trigger):
    """Never fires by itself: the pipeline retrains when it is told to, with all that came since it last did.

    Every pipeline can be told to, whatever its trigger; this one does nothing else.

    >>> import numpy as np
    >>> trigger = ManualTrigger()
    >>> arrivals = Arrivals(keys=np.arange(3), timestamps=np.array([10, 20, 30]))
    >>> trigger.next_firing(trigger.initial_state(), arrivals, observe=None).firing is None
    True
    """

    def next_firing(self, state: TriggerState, arrivals: Arrivals, observe: Observer) -> Step:
        return Step(state)
