"""Retrain when new data have waited for so long that a training is worth it."""

from __future__ import annotations

import numpy as np
from pydantic import Field, FiniteFloat

from modyn.core.plugins.triggers import TRIGGERS, Observer
from modyn.supervisor.triggers.costs import CostState, CostTrigger
from modyn.supervisor.triggers.intervals import Interval, Verdict


@TRIGGERS.register("DataIncorporationLatencyCostTrigger")
class DataIncorporationLatencyCostTrigger(CostTrigger):
    """Fires when the time that new samples have waited is worth a training.

    ``incorporation_delay_per_training_second`` is how many seconds of waiting, added up over samples, you would accept
    to save one second of training: with 3600, a thousand samples that wait for an hour are worth 1,000 s of training.

    R is the number of new samples and C the sum of their waiting times on the data clock: an interval of ``duration``
    seconds adds R · duration for the samples before it, and for each of its own the time from its event time to the
    end. The trigger fires when C / ``incorporation_delay_per_training_second`` is at least the forecast seconds of
    training.

    >>> import numpy as np
    >>> from modyn.core.plugins.triggers import Arrivals, TrainingOutcome
    >>> trigger = DataIncorporationLatencyCostTrigger(
    ...     incorporation_delay_per_training_second=10,
    ...     cost_model={"seconds_per_sample": 0, "fixed_seconds": 5},
    ...     evaluation_interval_data_points=2,
    ... )
    >>> arrivals = Arrivals(keys=np.arange(6), timestamps=np.array([0, 10, 20, 30, 40, 50]))
    >>> first = trigger.next_firing(trigger.initial_state(), arrivals, observe=None)
    >>> state = trigger.after_training(first.state, TrainingOutcome(0, "model", num_samples=2, seconds=5.0))
    >>> trigger.next_firing(state, arrivals.from_position(first.firing.position), observe=None).firing.reason
    '4 new samples wait, 60 seconds of them: worth 6 s of training, at least the forecast 5 s'
    """

    state_type = CostState

    incorporation_delay_per_training_second: FiniteFloat = Field(
        gt=0, description="Seconds of waiting, added up over samples, that are worth one second of training."
    )

    @property
    def exchange_rate(self) -> float:
        return self.incorporation_delay_per_training_second

    def evaluate(self, state: CostState, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        fresh = self.not_trained_on(state, interval)
        waited = float((interval.data_clock - fresh.timestamps.astype(np.float64)).sum())  # int64 sums may overflow
        state = self.accumulated(state, interval, new=len(fresh.keys), new_area=waited)
        return self.weigh(state, "new samples wait")
