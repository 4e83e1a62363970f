"""Retrain when enough other triggers would."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from time import perf_counter
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from modyn.core.plugins.ensembles import ENSEMBLE_STRATEGIES, EnsembleStrategy
from modyn.core.plugins.triggers import (
    TRIGGERS,
    Arrivals,
    Evaluation,
    Finding,
    Firing,
    Observer,
    Step,
    TrainingOutcome,
    Trigger,
)
from modyn.supervisor.guards import GuardedTrigger, guarded, state_of
from modyn.supervisor.triggers.intervals import IntervalTrigger
from modyn.supervisor.triggers.moments import Moment, Stretch
from modyn.supervisor.triggers.spans import SpanState

LOOK = 16_384
"""Samples that subtriggers are shown at once."""

LOOK_READING = 2048
"""The same where several of them read what is in the data. One that was shown more than the ensemble takes looks again;
this bounds what is looked at twice."""


class EnsembleState(SpanState):
    """Of the samples since the ensemble fired.

    Attributes:
        subtriggers: name -> the state of the subtrigger.
        votes: names of subtriggers that have fired since the ensemble did.
    """

    subtriggers: dict[str, Any] = Field({})
    votes: tuple[str, ...] = ()


@TRIGGERS.register("EnsembleTrigger")
class EnsembleTrigger(Trigger):
    """Fires when enough of its subtriggers have fired since it last did.

    A subtrigger's vote stands from its own firing until the ensemble fires, which clears all votes. Subtriggers go on
    counting after their own firings, and hear of every training that the ensemble causes. Every one of them takes part
    from the first sample on, whether or not it has ever fired. They are visited in the order of the stream: the
    ensemble fires at the first moment at which the votes suffice. A subtrigger that fires between two samples right
    after the ensemble did has no vote left to give: its data are handed over already.

    Subtriggers may be of any kind, with guards of their own, and ensembles themselves.

    >>> import numpy as np
    >>> trigger = EnsembleTrigger.model_validate({
    ...     "subtriggers": {
    ...         "amount": {"id": "DataAmountTrigger", "num_samples": 2},
    ...         "time": {"id": "TimeTrigger", "every": "1m"},
    ...     },
    ...     "ensemble_strategy": {"id": "All"},
    ... })
    >>> arrivals = Arrivals(keys=np.arange(5), timestamps=np.array([0, 10, 20, 59, 60]))
    >>> step = trigger.next_firing(trigger.initial_state(), arrivals, observe=None)
    >>> step.firing.position, step.firing.timestamp, step.firing.reason
    (4, 60, '2 of 2 subtriggers fired (amount, time), 2 needed')
    """

    state_type = EnsembleState

    subtriggers: dict[str, Annotated[Trigger, TRIGGERS.field()]] = Field(
        min_length=1, description="Triggers that vote, by names of your own."
    )
    ensemble_strategy: Annotated[EnsembleStrategy, ENSEMBLE_STRATEGIES.field()] = Field(
        description="How many votes make the ensemble fire."
    )

    @field_validator("subtriggers")
    @classmethod
    def _check_names(cls, subtriggers: dict[str, Trigger]) -> dict[str, Trigger]:
        for name in subtriggers:
            if not name or "/" in name:
                raise ValueError(f"a subtrigger is named {name!r}; expected a name without slashes")
        return subtriggers

    @field_validator("ensemble_strategy", mode="before")
    @classmethod
    def _refuse_functions(cls, tree: Any) -> Any:
        if isinstance(tree, Mapping) and tree.get("id") == "Custom":
            raise ValueError(
                "Custom takes a Python function, which YAML cannot express; expected MajorityVote, AtLeastN, All or "
                "Any, nested ensembles of them, or the name of a strategy that an installed package registers"
            )
        return tree

    @model_validator(mode="after")
    def _check_votes(self) -> Self:
        count = len(self.subtriggers)
        needed = self.ensemble_strategy.needed(count)
        if needed is not None and needed > count:
            raise ValueError(
                f"ensemble_strategy: {self.ensemble_strategy.plugin_name} needs {needed} votes, but there "
                f"{'is only one subtrigger' if count == 1 else f'are only {count} subtriggers'}"
            )
        return self

    @cached_property
    def members(self) -> dict[str, Trigger]:
        """Subtriggers within their guards, those that look at data the hardest last: they are shown less."""
        return dict(
            sorted(((name, guarded(trigger)) for name, trigger in self.subtriggers.items()), key=lambda m: effort(m[1]))
        )

    @property
    def needs_model(self) -> bool:
        return any(trigger.needs_model for trigger in self.subtriggers.values())

    @property
    def needs_costs(self) -> bool:
        return any(trigger.needs_costs for trigger in self.subtriggers.values())

    def initial_state(self) -> EnsembleState:
        return EnsembleState(subtriggers={name: trigger.initial_state() for name, trigger in self.members.items()})

    def next_firing(self, state: EnsembleState, arrivals: Arrivals, observe: Observer) -> Step:
        seen = 0
        known: Mapping[str, Step] = {}
        evaluations: list[Evaluation] = []
        while seen < len(arrivals):
            shown = arrivals.slice(seen, min(seen + self._look, len(arrivals)))
            moment = Stretch(self.members, self._states(state), shown, observe, known).next_moment()
            seen += moment.position
            known = moment.ahead
            step = self._count(state.after(shown.timestamps[: moment.position]), moment, seen)
            state = step.state
            evaluations.extend(step.evaluations)
            if step.firing is not None:
                return Step(state, step.firing, tuple(evaluations))
        return Step(state, None, tuple(evaluations))

    @property
    def ticks(self) -> bool:
        return any(trigger.ticks for trigger in self.subtriggers.values())

    def fired_by_hand(self, state: EnsembleState) -> EnsembleState:
        """Clears the votes: the data that they were about are handed over."""
        states = {name: self.members[name].fired_by_hand(own) for name, own in self._states(state).items()}
        return EnsembleState(subtriggers=states)

    def next_tick(self, state: EnsembleState) -> int | None:
        states = self._states(state)
        ticks = (trigger.next_tick(states[name]) for name, trigger in self.members.items())
        return min((tick for tick in ticks if tick is not None), default=None)

    def tick(self, state: EnsembleState, clock: int) -> Step:
        steps = {}
        for name, own in self._states(state).items():
            due = self.members[name].next_tick(own)
            steps[name] = Step(own) if due is None or due > clock else self.members[name].tick(own, clock)
        fired = tuple(name for name, step in steps.items() if step.firing is not None)
        return self._count(state, Moment(0, steps, fired), 0)

    def after_training(self, state: EnsembleState, outcome: TrainingOutcome) -> EnsembleState:
        states = {name: self.members[name].after_training(own, outcome) for name, own in self._states(state).items()}
        return state.model_copy(update={"subtriggers": states})

    @cached_property
    def _look(self) -> int:
        return LOOK_READING if sum(effort(trigger) > 0 for trigger in self.members.values()) > 1 else LOOK

    def _states(self, state: EnsembleState) -> dict[str, Any]:
        return {name: state_of(trigger, state.subtriggers[name]) for name, trigger in self.members.items()}

    def _count(self, state: EnsembleState, moment: Moment, position: int) -> Step:
        """Takes the votes of a moment; ``state`` has seen all samples until then, its subtriggers have not."""
        started = perf_counter()
        state = state.model_copy(update={"subtriggers": {name: step.state for name, step in moment.steps.items()}})
        explained = [_explained(name, moment.steps[name].evaluations) for name in self.subtriggers]
        evaluations = tuple(heapq.merge(*explained, key=lambda evaluation: evaluation.last_timestamp))
        if not moment.fired or not state.pending:
            return Step(state, None, evaluations)
        votes = {name: name in state.votes or name in moment.fired for name in self.subtriggers}
        fires = self.ensemble_strategy.agrees(votes)
        evaluation = self._verdict(state, votes, fires, started)
        if not fires:
            state = state.model_copy(update={"votes": tuple(name for name, vote in votes.items() if vote)})
            return Step(state, None, (*evaluations, evaluation))
        firings = (moment.steps[name].firing for name in moment.fired)
        timestamp = max(firing.timestamp for firing in firings if firing is not None)
        return Step(
            EnsembleState(subtriggers=state.subtriggers),
            Firing(position, timestamp, evaluation.reason),
            (*evaluations, evaluation),
        )

    def _verdict(self, state: EnsembleState, votes: Mapping[str, bool], fires: bool, started: float) -> Evaluation:
        cast = [name for name, vote in votes.items() if vote]
        needed = self.ensemble_strategy.needed(len(votes))
        reason = f"{len(cast)} of {len(votes)} subtriggers fired ({', '.join(cast)})"
        threshold = None if needed is None else float(needed)
        findings = (
            Finding("", float(len(cast)), threshold, decision=fires),
            *(Finding(name, decision=vote) for name, vote in votes.items()),
        )
        reason = reason if needed is None else f"{reason}, {needed} needed"
        return replace(state.fired(reason, findings, started), decision=fires)


def effort(trigger: Trigger) -> int:
    """How hard a trigger looks at data: 2 shows them to a model, 1 reads them, 0 only counts them."""
    if isinstance(trigger, GuardedTrigger):
        return effort(trigger.policy)
    if isinstance(trigger, EnsembleTrigger):
        return max(effort(member) for member in trigger.subtriggers.values())
    if trigger.needs_model:
        return 2
    return int(isinstance(trigger, IntervalTrigger))


def _explained(name: str, evaluations: Iterable[Evaluation]) -> Iterator[Evaluation]:
    """A subtrigger's evaluations as the ensemble's: none of them decided about it."""
    for evaluation in evaluations:
        findings = (
            replace(found, name=f"{name}/{found.name}" if found.name else name) for found in evaluation.findings
        )
        reason = f"{name} fires: {evaluation.reason}" if evaluation.decision else f"{name}: {evaluation.reason}"
        yield replace(evaluation, decision=False, reason=reason, findings=tuple(findings))
