"""The loop of a pipeline: arrivals in, triggers out. Replay and live differ only in where arrivals come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from modyn.core.errors import ConflictError
from modyn.core.keysets import KeySet
from modyn.core.plugins.triggers import Arrivals, Evaluation, Firing, Observer, Step, TrainingOutcome, Trigger
from modyn.supervisor.guards import guarded
from modyn.supervisor.journal import EvaluationRow, TriggerRow

MAX_SHOWN = 16_384
"""Samples shown to the policy at once: between two looks a pipeline can be stopped, and what was found is journaled."""


@dataclass
class Progress:
    """Where the loop is."""

    samples_seen: int = 0
    first_timestamp: int | None = None
    data_clock: int | None = None
    """Largest event time seen."""
    cursor: int | None = None
    """One more than the last key taken; where a live run that follows would start."""
    trigger_seconds: float = 0.0


class TriggerLoop:
    """Shows arrivals to the policy and hands the data of each trigger over.

    Args:
        trigger: the policy.
        observe: answers what the policy asks about samples.
        handle: called at each firing as ``handle(firing, new_data, row)``; trains and answers the finished row.
        done: called as ``done(row, state)`` once the policy has heard of the training.
        explain: gets every evaluation of the policy, before the firing that it caused is handled.
        maximum_triggers: after the last one, arrivals are no longer looked at.
    """

    def __init__(
        self,
        trigger: Trigger,
        observe: Observer,
        *,
        handle: Callable[[Firing, KeySet, TriggerRow], TriggerRow],
        done: Callable[[TriggerRow, dict[str, Any]], None],
        explain: Callable[[Sequence[EvaluationRow]], None],
        maximum_triggers: int | None,
    ) -> None:
        self._trigger = guarded(trigger)
        self._observe = observe
        # A policy computes on one thread: with more, its statistics and so its decisions could differ in the last bits
        # from machine to machine, and threads that wait for each other on a busy one cost ten times what they win.
        self._blas = ThreadpoolController()
        self._handle = handle
        self._done = done
        self._explain = explain
        self._maximum = maximum_triggers
        self._state = self._trigger.initial_state()
        self._pending: list[KeySet] = []
        self._pending_first: int | None = None
        self._next_index = 0
        self._next_evaluation = 0
        self.progress = Progress()

    @property
    def exhausted(self) -> bool:
        """Whether the last allowed trigger has fired."""
        return self._maximum is not None and self._next_index >= self._maximum

    @property
    def next_tick(self) -> int | None:
        """When the policy wants to look again even if nothing arrives, Unix seconds."""
        return None if self.exhausted or not self._pending else self._trigger.next_tick(self._state)

    def feed(self, arrivals: Arrivals) -> None:
        """Takes arrivals; returns when all triggers they cause are handled."""
        while len(arrivals) and not self.exhausted:
            shown = arrivals.slice(0, min(self._look(arrivals), len(arrivals)))
            if not len(shown):
                continue
            step = self._timed(partial(self._trigger.next_firing, self._state, shown, self._observe))
            taken = len(shown) if step.firing is None else step.firing.position
            self._take(arrivals.slice(0, taken))
            arrivals = arrivals.from_position(taken)
            self._go_on(step)

    def _look(self, arrivals: Arrivals) -> int:
        """How many of the arrivals may be shown next.

        A moment at which the policy wants to look comes before those that arrived at it or later, as it does where they
        have not arrived yet.
        """
        if not self._trigger.ticks:
            return MAX_SHOWN
        due = self._trigger.next_tick(self._state)
        if due is None:
            return 1  # it may know its next moment once it has seen a sample
        reached = np.flatnonzero(arrivals.clock[:MAX_SHOWN] >= due)
        if not len(reached):
            return MAX_SHOWN
        if reached[0] == 0:
            self.tick(due)
            # A policy that stays where it is gets the sample all the same.
            return 0 if self._trigger.next_tick(self._state) != due else 1
        return int(reached[0])

    def tick(self, clock: int) -> None:
        """The clock of arrivals has reached :attr:`next_tick`, and all that arrived before it was fed."""
        self._go_on(self._timed(partial(self._trigger.tick, self._state, clock)))

    def check_can_fire(self) -> None:
        """
        Raises:
            ConflictError: nothing new has come since the last trigger, or no more triggers are allowed.
        """
        if self.exhausted:
            raise ConflictError(f"the pipeline has had all of its {self._maximum} triggers (--maximum-triggers)")
        if not self._pending:
            raise ConflictError("no new samples came since the last trigger; there is nothing to train on")

    def fire(self, reason: str) -> None:
        """Fires now, whatever the policy says, with all samples taken since the last trigger."""
        self.check_can_fire()
        assert self.progress.data_clock is not None, "there are pending samples"
        assert self._pending_first is not None, "there are pending samples"
        pending = sum(map(len, self._pending))
        evaluation = Evaluation(self._pending_first, self.progress.data_clock, pending, decision=True, reason=reason)
        firing = Firing(0, self.progress.data_clock, reason)
        self._go_on(Step(self._trigger.fired_by_hand(self._state), firing, (evaluation,)))

    def _timed(self, look: Callable[[], Step]) -> Step:
        started = time.perf_counter()
        with self._blas.limit(limits=1, user_api="blas"):
            step = look()
        self.progress.trigger_seconds += time.perf_counter() - started
        return step

    def _go_on(self, step: Step) -> None:
        self._state = step.state
        firing, evaluations = step.firing, [*step.evaluations]
        if firing is not None and not self._pending:  # a trigger that was fired by hand has taken its data
            firing = None
            if evaluations:
                reason = f"held back: {evaluations[-1].reason}, but nothing came since the last trigger"
                evaluations[-1] = replace(evaluations[-1], decision=False, reason=reason)
        rows = [
            EvaluationRow(number, None, evaluation)
            for number, evaluation in enumerate(evaluations, self._next_evaluation)
        ]
        self._next_evaluation += len(rows)
        if firing is not None and rows:
            rows[-1] = EvaluationRow(rows[-1].number, self._next_index, rows[-1].evaluation)
        if rows:
            self._explain(rows)
        if firing is not None:
            self._fire(firing)

    def _take(self, arrivals: Arrivals) -> None:
        if len(arrivals) == 0:
            return
        first, last = int(arrivals.timestamps.min()), int(arrivals.timestamps.max())
        self._pending.append(KeySet.from_array(arrivals.keys))
        self._pending_first = first if self._pending_first is None else min(self._pending_first, first)
        progress = self.progress
        progress.samples_seen += len(arrivals)
        progress.first_timestamp = first if progress.first_timestamp is None else min(progress.first_timestamp, first)
        progress.data_clock = last if progress.data_clock is None else max(progress.data_clock, last)
        progress.cursor = int(arrivals.keys[-1]) + 1

    def _fire(self, firing: Firing) -> None:
        new_data = KeySet.concat(self._pending)
        first, self._pending, self._pending_first = self._pending_first, [], None
        assert first is not None, "a trigger without new data does not fire"
        index = self._next_index
        self._next_index += 1
        row = TriggerRow(
            trigger_index=index,
            timestamp=firing.timestamp,
            reason=firing.reason,
            new_samples=len(new_data),
            first_timestamp=first,
            last_timestamp=self.progress.data_clock,  # all that was taken so far is handed over with this trigger
        )
        row = self._handle(firing, new_data, row)
        # Of a training that is reused, what it once took: a rerun decides as the first run did.
        outcome = TrainingOutcome(index, row.model, row.samples, row.train_seconds)
        self._state = self._trigger.after_training(self._state, outcome)
        self._done(row, self._state.model_dump(mode="json"))
