"""Trainings in the middle of an interval, which another trigger caused: what they leave of the interval."""

from __future__ import annotations

from typing import Any

from modyn.core.plugins.triggers import TrainingOutcome
from modyn.supervisor.triggers.intervals import Interval, IntervalState, IntervalTrigger


class InterruptibleState(IntervalState):
    """``trained_samples``: how many samples of interval ``trained_interval`` were new data of the last training."""

    trained_interval: int = -1
    trained_samples: int = 0


class InterruptibleTrigger(IntervalTrigger):
    """A trigger to which samples that a training took are no longer new.

    Its own firings end an interval, but as a part of an ensemble it may learn of a training before its interval is
    complete.
    """

    state_type = InterruptibleState

    def trained(self, state: Any, outcome: TrainingOutcome) -> Any:
        return (
            super().trained(state, outcome).but(trained_interval=state.num_evaluated, trained_samples=len(state.keys))
        )

    def already_trained_on(self, state: Any) -> int:
        """How many samples of the interval that is not complete yet were new data of the last training."""
        return int(state.trained_samples) if state.trained_interval == state.num_evaluated else 0

    def not_trained_on(self, state: Any, interval: Interval) -> Interval:
        """The part of an interval, maybe empty, that came after the last training."""
        if state.trained_interval != interval.number:
            return interval
        seen = state.trained_samples
        return interval._replace(keys=interval.keys[seen:], timestamps=interval.timestamps[seen:])
