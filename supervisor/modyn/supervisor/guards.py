"""Limits on how often a trigger may fire, put around any policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from pydantic import SkipValidation

from modyn.core.durations import format_duration
from modyn.core.plugins.triggers import (
    Arrivals,
    Evaluation,
    Guards,
    Observer,
    Step,
    TrainingOutcome,
    Trigger,
    TriggerState,
)


def guarded(trigger: Trigger) -> Trigger:
    """The trigger within its guards; without any, the trigger itself."""
    if trigger.guards is None or isinstance(trigger, GuardedTrigger):
        return trigger
    return GuardedTrigger(policy=trigger, guards=trigger.guards)


def state_of(trigger: Trigger, state: Any) -> Any:
    """The state of a trigger inside another one's: as it is, or made of the plain data that it becomes in a journal."""
    return state if isinstance(state, TriggerState) else trigger.state_type.model_validate(state)


class GuardedState(TriggerState):
    """
    Attributes:
        policy: state of the policy inside.
        pending: samples since the last firing that got through.
        data_clock: largest event time seen, Unix seconds; None before the first sample.
        wall_clock: when the newest sample arrived, Unix seconds.
        fired_data, fired_wall: both clocks at the last firing that got through; None before it.
        recent: data clock at the firings that count for ``maximum_triggers``, oldest first.
    """

    policy: Any
    pending: int = 0
    data_clock: int | None = None
    wall_clock: int | None = None
    fired_data: int | None = None
    fired_wall: int | None = None
    recent: tuple[int, ...] = ()

    def after(self, arrivals: Arrivals) -> Self:
        """The state once some more samples were seen."""
        if not len(arrivals):
            return self
        last = int(arrivals.timestamps.max())
        update = {
            "pending": self.pending + len(arrivals),
            "data_clock": last if self.data_clock is None else max(self.data_clock, last),
            "wall_clock": int(arrivals.clock[-1]),
        }
        return self.model_copy(update=update)


class GuardedTrigger(Trigger):
    """A policy whose firings may be held back.

    A firing that is held back is dropped: the policy goes on as after a firing, but hears of no training, and the data
    belong to the next firing. The data clock of a firing is the largest event time seen, or the firing's own if that is
    later. Its wall clock is when the newest sample that it takes arrived, so that it does not matter whether a moment
    is noticed when it comes or at the next sample.
    """

    state_type = GuardedState

    policy: SkipValidation[Trigger]
    guards: Guards

    @property
    def needs_model(self) -> bool:
        return self.policy.needs_model

    @property
    def needs_costs(self) -> bool:
        return self.policy.needs_costs

    def initial_state(self) -> GuardedState:
        return GuardedState(policy=self.policy.initial_state())

    def next_firing(self, state: GuardedState, arrivals: Arrivals, observe: Observer) -> Step:
        seen = 0
        evaluations: list[Evaluation] = []
        while seen < len(arrivals):
            rest = arrivals.from_position(seen)
            step = self.policy.next_firing(state_of(self.policy, state.policy), rest, observe)
            taken = len(rest) if step.firing is None else step.firing.position
            seen += taken
            step = self._judge(state.after(rest.slice(0, taken)), step)
            evaluations.extend(step.evaluations)
            state = step.state
            if step.firing is not None:
                return Step(state, replace(step.firing, position=seen), tuple(evaluations))
        return Step(state, None, tuple(evaluations))

    @property
    def ticks(self) -> bool:
        return self.policy.ticks

    def next_tick(self, state: GuardedState) -> int | None:
        return self.policy.next_tick(state_of(self.policy, state.policy))

    def tick(self, state: GuardedState, clock: int) -> Step:
        return self._judge(state, self.policy.tick(state_of(self.policy, state.policy), clock))

    def after_training(self, state: GuardedState, outcome: TrainingOutcome) -> GuardedState:
        policy = self.policy.after_training(state_of(self.policy, state.policy), outcome)
        return state.model_copy(update={"policy": policy})

    def _judge(self, state: GuardedState, step: Step) -> Step:
        """A step of the policy as the guards let it pass.

        Args:
            state: has seen all that the step takes; its policy's state is of before.
        """
        state = state.model_copy(update={"policy": step.state})
        if step.firing is None:
            return Step(state, None, step.evaluations)
        clock = step.firing.timestamp if state.data_clock is None else max(state.data_clock, step.firing.timestamp)
        objection = self._objection(state, clock)
        if objection is not None:
            return Step(state, None, _held_back(step.evaluations, objection))
        return Step(self._passed(state, clock), step.firing, step.evaluations)

    def fired_by_hand(self, state: GuardedState) -> GuardedState:
        """Guards count from it too."""
        policy = self.policy.fired_by_hand(state_of(self.policy, state.policy))
        state = state.model_copy(update={"policy": policy})
        return state if state.data_clock is None else self._passed(state, state.data_clock)

    def _passed(self, state: GuardedState, clock: int) -> GuardedState:
        update = {
            "pending": 0,
            "fired_data": clock,
            "fired_wall": state.wall_clock,
            "recent": (*self._recent(state, clock), clock) if self.guards.per is not None else (),
        }
        return state.model_copy(update=update)

    def _objection(self, state: GuardedState, clock: int) -> str | None:
        """Why a firing at a data clock may not pass; None if it may."""
        guards = self.guards
        for what, limit, now, last in (
            ("cooldown", guards.cooldown, clock, state.fired_data),
            ("cooldown_wall", guards.cooldown_wall, state.wall_clock, state.fired_wall),
        ):
            if limit is not None and now is not None and last is not None and now - last < limit:
                return f"{what}: {format_duration(max(now - last, 0))} of {format_duration(limit)} passed"
        if guards.minimum_samples is not None and state.pending < guards.minimum_samples:
            return f"minimum_samples: {state.pending:,} of {guards.minimum_samples:,} new samples"
        if guards.maximum_triggers is not None and len(self._recent(state, clock)) >= guards.maximum_triggers:
            return f"maximum_triggers: {guards.maximum_triggers:,} within {format_duration(guards.per or 0)} already"
        return None

    def _recent(self, state: GuardedState, clock: int) -> tuple[int, ...]:
        """Firings that lie less than the period back."""
        return tuple(fired for fired in state.recent if clock - fired < (self.guards.per or 0))


def _held_back(evaluations: Sequence[Evaluation], objection: str) -> tuple[Evaluation, ...]:
    """Evaluations whose last one would have fired."""
    if not evaluations:
        return ()
    last = evaluations[-1]
    return (*evaluations[:-1], replace(last, decision=False, reason=f"held back: {objection}; {last.reason}"))
