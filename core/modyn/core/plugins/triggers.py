"""Triggering policies: when to retrain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from modyn.core.arrow import Int64Array
from modyn.core.registry import Plugin, Registry


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Samples in the order in which the pipeline sees them: (timestamp, key) order in a replay by event time,
    key order in live mode and in a replay by arrival.

    Attributes:
        keys: int64 [n].
        timestamps: event times, int64 [n], Unix seconds; not sorted in key order.
    """

    keys: Int64Array
    timestamps: Int64Array

    def __len__(self) -> int:
        return len(self.keys)

    def from_position(self, position: int) -> Arrivals:
        """What remains after ``position`` samples."""
        return Arrivals(self.keys[position:], self.timestamps[position:])


@dataclass(frozen=True)
class Firing:
    """A trigger fires.

    Attributes:
        position: how many of the given arrivals belong to this trigger, 0 <= position <= n. The first
            ``position`` samples, with all that came since the last trigger, are its new data.
        timestamp: data time at which it fired, Unix seconds.
        reason: one line for people.
    """

    position: int
    timestamp: int
    reason: str


@dataclass(frozen=True)
class TrainingOutcome:
    """What a trigger learns about the training it caused."""

    trigger_index: int
    model: str | None
    """Content digest; None if the training set was empty and nothing was trained."""
    num_samples: int
    seconds: float


class TriggerState(BaseModel):
    """Everything a trigger remembers; plain data, so that it can be journaled and continued elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1


class Trigger(Plugin, ABC):
    """A triggering policy: pure with respect to what it is told.

    All memory is in an explicit state. Feeding a stream in pieces of any size gives the same firings as feeding
    it at once. A policy cannot tell a replay from live data.
    """

    state_type: ClassVar[type[TriggerState]] = TriggerState

    def initial_state(self) -> Any:
        """The state before the first sample; an instance of :attr:`state_type`."""
        return self.state_type()

    @abstractmethod
    def next_firing(self, state: Any, arrivals: Arrivals) -> tuple[Any, Firing | None]:
        """Looks at arrivals until the policy fires or they are used up.

        Args:
            state: of :attr:`state_type`; not modified.
            arrivals: samples not shown before.

        Returns:
            The new state and the first firing. With a firing, only ``firing.position`` arrivals count as seen:
            the caller shows the rest again, after the training, with the new state. Without one, all are seen.
        """

    def after_training(self, state: Any, outcome: TrainingOutcome) -> Any:
        """The state after a training that this trigger caused; by default unchanged."""
        return state


TRIGGERS: Registry[Trigger] = Registry(
    "trigger",
    key="id",
    package="modyn.supervisor.triggers",
    group="modyn.triggers",
    planned=(
        "DataDriftTrigger",
        "PerformanceTrigger",
        "DataIncorporationLatencyCostTrigger",
        "AvoidableMisclassificationCostTrigger",
        "EnsembleTrigger",
    ),
)
