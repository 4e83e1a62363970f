"""Feeds a trigger as the loop of a pipeline does, and remembers what it says."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.core.plugins.triggers import Arrivals, Evaluation, Observer, Step, TrainingOutcome, Trigger
from modyn.supervisor.guards import guarded
from tests.helpers.observing import ArrayObserver


class Fired(NamedTuple):
    """``seen``: samples of the stream until then."""

    seen: int
    timestamp: int
    reason: str


@dataclass
class Told:
    """Everything that a trigger said about a stream.

    Attributes:
        firings: in order.
        evaluations: one tuple per firing, and one of those behind the last; seconds are 0.
    """

    firings: list[Fired] = field(default_factory=list)
    evaluations: list[tuple[Evaluation, ...]] = field(default_factory=lambda: [()])

    @property
    def points(self) -> list[tuple[int, int]]:
        """(samples seen, timestamp) of each firing."""
        return [(fired.seen, fired.timestamp) for fired in self.firings]

    @property
    def seen(self) -> list[int]:
        """Samples seen at each firing."""
        return [fired.seen for fired in self.firings]

    def unordered(self) -> Told:
        """The same with the evaluations between two firings in an order of their own."""
        return replace(self, evaluations=[tuple(sorted(told, key=repr)) for told in self.evaluations])


class Feeder:
    """One run of a trigger.

    Args:
        through_json: the state goes through JSON after every call.
        untouched: checks that no call changes the state it is given, and that it says the same when called again.
    """

    def __init__(
        self,
        trigger: Trigger,
        observe: Observer | None = None,
        *,
        through_json: bool = False,
        untouched: bool = False,
    ) -> None:
        self.trigger = guarded(trigger)
        self.observe = observe or ArrayObserver(np.zeros((1, 1)))
        self.told = Told()
        self._through_json = through_json
        self._untouched = untouched
        self._state = self._kept(self.trigger.initial_state())
        self._seen = 0

    def feed(self, arrivals: Arrivals) -> None:
        while len(arrivals):
            step = self._asked(lambda rest=arrivals: self.trigger.next_firing(self._state, rest, self.observe))
            taken = len(arrivals) if step.firing is None else step.firing.position
            assert 0 <= taken <= len(arrivals)
            self._seen += taken
            arrivals = arrivals.from_position(taken)
            self._go_on(step)

    def tick_until(self, clock: int) -> None:
        """Lets the clock of arrivals pass, nothing arriving, until just before a time."""
        while (due := self.trigger.next_tick(self._state)) is not None and due <= clock:
            step = self._asked(lambda due=due: self.trigger.tick(self._state, due))
            assert step.firing is None or step.firing.position == 0
            self._go_on(step)
            again = self.trigger.next_tick(self._state)
            assert again is None or again > due, "a tick that is due was heard"

    def _asked(self, ask: Any) -> Step:
        before = self._state.model_dump_json()
        step: Step = ask()
        assert isinstance(step.state, self.trigger.state_type)
        if self._untouched:
            again = ask()
            assert self._state.model_dump_json() == before
            assert again.firing == step.firing
            assert again.state.model_dump_json() == step.state.model_dump_json()
            assert timeless(again.evaluations) == timeless(step.evaluations)
        return step

    def _go_on(self, step: Step) -> None:
        self._state = self._kept(step.state)
        self.told.evaluations[-1] += timeless(step.evaluations)
        if step.firing is None:
            return
        self.told.firings.append(Fired(self._seen, step.firing.timestamp, step.firing.reason))
        index = len(self.told.firings) - 1
        self.told.evaluations.append(())
        outcome = TrainingOutcome(index, f"model{index}", self._seen, 0.5 * self._seen)
        self._state = self._kept(self.trigger.after_training(self._state, outcome))

    def _kept(self, state: Any) -> Any:
        return self.trigger.state_type.model_validate_json(state.model_dump_json()) if self._through_json else state


def timeless(evaluations: Iterable[Evaluation]) -> tuple[Evaluation, ...]:
    return tuple(replace(evaluation, seconds=0.0) for evaluation in evaluations)


def fed(trigger: Trigger, pieces: Iterable[Arrivals], observe: Observer | None = None, **how: bool) -> Told:
    """What a trigger says when it is fed pieces of a stream."""
    feeder = Feeder(trigger, observe, **how)
    for piece in pieces:
        feeder.feed(piece)
    return feeder.told


def stream(times: Sequence[int], arrived: Sequence[int] | None = None) -> Arrivals:
    """A stream whose keys are 0, 1, 2 …"""
    return Arrivals(
        np.arange(len(times), dtype=np.int64),
        np.array(times, dtype=np.int64),
        None if arrived is None else np.array(arrived, dtype=np.int64),
    )


def cut(arrivals: Arrivals, cuts: Iterable[int]) -> Iterator[Arrivals]:
    """A stream in pieces; places beyond its end are ignored."""
    edges = sorted({0, len(arrivals), *(min(place, len(arrivals)) for place in cuts)})
    return (arrivals.slice(a, b) for a, b in itertools.pairwise(edges))


def points(trigger: Trigger, times: Sequence[int]) -> list[tuple[int, int]]:
    """(samples seen, timestamp) of each firing over a stream fed at once."""
    return fed(trigger, [stream(times)]).points


def ascending(gaps: Sequence[int], start: int = 0) -> Int64Array:
    """Times with these gaps between them, int64 [len(gaps)]."""
    return start + np.cumsum(np.array(gaps, dtype=np.int64))


TIMES = st.lists(st.integers(0, 300), max_size=60)
"""Event times in any order, with ties."""

CUTS = st.lists(st.integers(0, 60), max_size=8)
