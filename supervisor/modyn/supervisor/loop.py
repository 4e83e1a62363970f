"""The loop of a pipeline: arrivals in, triggers out. Replay and live differ only in where arrivals come from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modyn.core.keysets import KeySet
from modyn.core.plugins.triggers import Arrivals, Firing, TrainingOutcome, Trigger
from modyn.supervisor.journal import TriggerRow


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
        handle: called at each firing as ``handle(firing, new_data, row)``; trains and answers the finished row.
        done: called as ``done(row, state)`` once the policy has heard of the training.
        maximum_triggers: after the last one, arrivals are no longer looked at.
    """

    def __init__(
        self,
        trigger: Trigger,
        handle: Callable[[Firing, KeySet, TriggerRow], TriggerRow],
        done: Callable[[TriggerRow, dict[str, Any]], None],
        maximum_triggers: int | None,
    ) -> None:
        self._trigger = trigger
        self._handle = handle
        self._done = done
        self._maximum = maximum_triggers
        self._state = trigger.initial_state()
        self._pending: list[KeySet] = []
        self._pending_first: int | None = None
        self._next_index = 0
        self.progress = Progress()

    @property
    def exhausted(self) -> bool:
        """Whether the last allowed trigger has fired."""
        return self._maximum is not None and self._next_index >= self._maximum

    def feed(self, arrivals: Arrivals) -> None:
        """Takes arrivals; returns when all triggers they cause are handled."""
        while len(arrivals) and not self.exhausted:
            started = time.perf_counter()
            self._state, firing = self._trigger.next_firing(self._state, arrivals)
            self.progress.trigger_seconds += time.perf_counter() - started
            taken = len(arrivals) if firing is None else firing.position
            self._take(Arrivals(arrivals.keys[:taken], arrivals.timestamps[:taken]))
            arrivals = arrivals.from_position(taken)
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
        outcome = TrainingOutcome(index, row.model, row.samples, row.select_seconds + row.train_seconds)
        self._state = self._trigger.after_training(self._state, outcome)
        self._done(row, self._state.model_dump(mode="json"))
