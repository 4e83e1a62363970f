"""Triggers that weigh what waiting costs against what a training costs: what they share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from modyn.core.config.published import Described
from modyn.core.plugins.triggers import Finding, TrainingOutcome
from modyn.supervisor.performance.forecasting import COST_PENALTY, ridge
from modyn.supervisor.triggers.interruption import InterruptibleState, InterruptibleTrigger
from modyn.supervisor.triggers.intervals import Interval, Verdict


class CostModel(Described):
    """What trainings cost, stated instead of measured."""

    seconds_per_sample: FiniteFloat = Field(
        ge=0, description="Seconds of training per new sample, all epochs together."
    )
    fixed_seconds: FiniteFloat = Field(0.0, ge=0, description="Seconds that every training takes whatever its size.")


class CostState(InterruptibleState):
    """What waiting has cost since the last training, and what trainings cost.

    Attributes:
        regret: R, how many things (samples, misclassifications) there are to regret.
        area: C, the area under R over data time; their seconds.
        regret_clock: data time up to which the area counts, Unix seconds.
        unincorporated: new samples.
        last_new: new samples of the last measured training.
        samples, seconds: size of the training set and duration of each measured training, oldest first.
    """

    regret: float = 0.0
    area: float = 0.0
    regret_clock: int | None = None
    unincorporated: NonNegativeInt = 0
    last_new: NonNegativeInt = 0
    samples: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()


class CostTrigger(InterruptibleTrigger):
    """Fires when what has been regretted since the last training is worth a training.

    R counts what there is to regret, and C is the area under R over data time. C divided by the exchange rate is a
    number of training seconds; the trigger fires when that is not less than the seconds that a training on the new data
    is forecast to take: a ridge regression (penalty 1) of measured seconds on the sizes of training sets, or
    ``cost_model``. A training set that held more than the new samples, such as older data, is expected to hold as many
    more again. After every training, whoever caused it, R and C start from zero; they count during the warm-up too.
    """

    state_type = CostState

    cost_tracking_window_size: PositiveInt = Field(
        1000, description="Trainings from which the seconds of the next one are forecast."
    )
    cost_model: CostModel | None = Field(
        None, description="States what trainings cost; by default the seconds that they took."
    )

    @property
    @abstractmethod
    def exchange_rate(self) -> float:
        """Seconds of regret that are worth one second of training."""

    @property
    def needs_costs(self) -> bool:
        return self.cost_model is None

    def elapsed(self, state: Any, interval: Interval) -> int:
        """Seconds of data time that an interval adds."""
        return 0 if state.regret_clock is None else interval.data_clock - state.regret_clock

    def accumulated(self, state: Any, interval: Interval, *, new: float, new_area: float) -> Any:
        """The state after an interval that brought ``new`` things to regret, whose own area in it is ``new_area``."""
        return state.but(
            area=state.area + state.regret * self.elapsed(state, interval) + new_area,
            regret=state.regret + new,
            regret_clock=interval.data_clock,
            unincorporated=state.unincorporated + len(self.not_trained_on(state, interval).keys),
        )

    def weigh(self, state: Any, what: str, *, upcoming_area: float = 0.0) -> Verdict:
        """Whether the area is worth a training.

        Args:
            what: there is to regret, for people.
            upcoming_area: what is forecast to join it until the next evaluation.
        """
        cost = self.training_seconds(state)
        worth = (state.area + upcoming_area) / self.exchange_rate
        note = f"{state.regret:,.6g} {what}, {state.area + upcoming_area:,.6g} seconds of them"
        if cost is None:
            note += "; no training was measured yet"
            return Verdict(state, False, f"no decision: {note}", (Finding("", worth, note=note),))
        decision = worth > 0 and worth >= cost  # waiting that costs nothing is no reason to train, however cheap
        reason = (
            f"{note}: worth {worth:.4g} s of training, {'at least' if decision else 'not'} the forecast {cost:.4g} s"
        )
        return Verdict(state, decision, reason, (Finding("", worth, cost, decision=decision),))

    def training_seconds(self, state: Any) -> float | None:
        """What a training on the new samples would take; None if none was measured yet."""
        if self.cost_model is not None:
            return self.cost_model.fixed_seconds + self.cost_model.seconds_per_sample * int(state.unincorporated)
        if not state.samples:
            return None
        size = _training_set_size(state.unincorporated, state.last_new, state.samples[-1])
        samples = np.array(state.samples, dtype=np.float64)
        return max(0.0, ridge(samples, np.array(state.seconds, dtype=np.float64), COST_PENALTY, at=size))

    def trained(self, state: Any, outcome: TrainingOutcome) -> Any:
        new = state.unincorporated + len(state.keys) - self.already_trained_on(state)
        state = super().trained(state, outcome)
        if outcome.model is not None:
            kept = self.cost_tracking_window_size
            state = state.but(
                samples=(*state.samples, outcome.num_samples)[-kept:],
                seconds=(*state.seconds, outcome.seconds)[-kept:],
                last_new=new,
            )
        seen = [state.regret_clock, int(state.timestamps.max()) if len(state.timestamps) else None]
        clock = max((time for time in seen if time is not None), default=None)
        return state.but(regret=0.0, area=0.0, unincorporated=0, regret_clock=clock)


def _training_set_size(new: int, last_new: int, last_size: int) -> float:
    """How large the next training set will be if the selection goes on as it did: as much older data as last time,
    or the same share of the new data."""
    if last_size >= last_new:
        return float(new + last_size - last_new)
    return new * last_size / last_new
