"""Triggering policies: when to retrain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.config.published import Described
from modyn.core.durations import Duration
from modyn.core.plugins.evaluation import Outcomes
from modyn.core.registry import Plugin, Registry

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Samples in the order in which the pipeline sees them: (timestamp, key) order in a replay by event time,
    key order in live mode and in a replay by arrival.

    Attributes:
        keys: int64 [n].
        timestamps: event times, int64 [n], Unix seconds; not sorted in key order.
        arrived: when each sample reached storage, int64 [n], Unix seconds, ascending; None in a replay by event time.
    """

    keys: Int64Array
    timestamps: Int64Array
    arrived: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def clock(self) -> Int64Array:
        """The wall clock when each sample is seen, int64 [n], Unix seconds.

        A replay by event time takes every sample to have arrived when it was made.
        """
        return self.timestamps if self.arrived is None else self.arrived

    def from_position(self, position: int) -> Arrivals:
        """What remains after ``position`` samples."""
        return self.slice(position, len(self))

    def slice(self, start: int, end: int) -> Arrivals:
        """Samples ``start … end - 1``."""
        arrived = None if self.arrived is None else self.arrived[start:end]
        return Arrivals(self.keys[start:end], self.timestamps[start:end], arrived)


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
class Finding:
    """One number that a trigger compared with a threshold.

    Attributes:
        name: of the metric, criterion or subtrigger it is about; parts of a path are joined by ``/``; empty: the
            trigger itself.
        statistic: what was measured; None if there was nothing to measure.
        threshold: what it was compared with; None if there was none.
        p_value: of a hypothesis test.
        decision: whether it speaks for a trigger.
        note: for people, such as why nothing was measured; may be empty.
    """

    name: str = ""
    statistic: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    decision: bool = False
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Why a trigger fired at some moment, or did not.

    Attributes:
        first_timestamp, last_timestamp: smallest and largest event time of the samples looked at, Unix seconds.
        num_samples: how many they were.
        decision: whether the trigger fired.
        reason: one line for people.
        findings: the numbers behind the decision.
        seconds: spent deciding.
    """

    first_timestamp: int
    last_timestamp: int
    num_samples: int
    decision: bool
    reason: str
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0


class Step(NamedTuple):
    """What came of looking at arrivals.

    Attributes:
        state: the new state.
        firing: the first firing, or None.
        evaluations: in the order in which they were made; the last one is that of the firing. Simple triggers
            evaluate only when they fire.
    """

    state: Any
    firing: Firing | None = None
    evaluations: tuple[Evaluation, ...] = ()


@dataclass(frozen=True)
class TrainingOutcome:
    """What a trigger learns about the training it caused.

    Attributes:
        model: content digest; None if the training set was empty and nothing was trained.
        num_samples: in the training set.
        seconds: that the training took, as measured when it was first made: the same in every rerun that reuses it.
    """

    trigger_index: int
    model: str | None
    num_samples: int
    seconds: float


@dataclass(frozen=True, eq=False)
class KnownOutcomes:
    """What a model says of samples whose labels are known.

    Attributes:
        keys: int64 [k], in the order asked for.
        outcomes: labels and predictions of them, [k].
        gone: keys that were asked for and are deleted, int64.
    """

    keys: Int64Array
    outcomes: Outcomes
    gone: Int64Array


class Observer(ABC):
    """What a trigger may ask about samples. Answers depend on the arguments alone, so a trigger stays pure.

    Rows of samples that were deleted meanwhile are left out of all answers. Every sample is shown to a model at most
    once, however often it is asked for, as long as the answers fit into memory.
    """

    @abstractmethod
    def embeddings(self, keys: Int64Array, model: str) -> Features:
        """What the last layer of a model gets as input, float32 [n, d], in the order of ``keys``.

        Args:
            model: content digest.

        Raises:
            InvalidInputError: the model has no last linear layer.
        """

    @abstractmethod
    def columns(self, keys: Int64Array, names: tuple[str, ...]) -> Features:
        """Numbers of the samples' own columns, float32 [n, d], in the order of ``keys``.

        Args:
            names: columns of the dataset; lists and bytes of a fixed length count as that many numbers. Empty: all
                columns that hold numbers.

        Raises:
            InvalidInputError: there is no such column, or it holds no numbers.
        """

    @abstractmethod
    def outcomes(
        self, keys: Int64Array, model: str, *, known_at: int, scores: bool, newest_key: int | None = None
    ) -> KnownOutcomes:
        """Labels as known at a data time, and what a model says of the samples that have one.

        Args:
            known_at: Unix seconds; labels whose time is later do not count.
            newest_key: of all samples that the trigger has seen; where they are seen in the order of arrival, labels
                that reached storage after it do not count. By default the newest that was asked about so far.
            scores: whether raw model outputs are needed too.
        """

    @abstractmethod
    def generator(self, index: int) -> np.random.Generator:
        """Random numbers of the pipeline's seed.

        Args:
            index: which of several streams, such as the number of the evaluation.
        """


class TriggerState(BaseModel):
    """Everything a trigger remembers; plain data, so that it can be journaled and continued elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1


class Guards(Described):
    """Keep a trigger from firing too often, whatever its policy says. A firing that is held back is dropped; its data
    belong to the next one."""

    cooldown: Duration | None = Field(None, description="Data time that has to pass after a firing.")
    cooldown_wall: Duration | None = Field(
        None,
        description="Wall time that has to pass after a firing, by the clock on which samples arrive; in a replay by "
        "event time, that of their event times.",
    )
    minimum_samples: PositiveInt | None = Field(None, description="New samples that a firing has to have.")
    maximum_triggers: PositiveInt | None = Field(None, description="Firings within any `per` of data time.")
    per: Duration | None = Field(None, description="The period of `maximum_triggers`.")

    @model_validator(mode="after")
    def _check_period(self) -> Guards:
        if (self.maximum_triggers is None) != (self.per is None):
            raise ValueError("maximum_triggers and per belong together; give both or none")
        return self


class Trigger(Plugin, ABC):
    """A triggering policy: pure with respect to what it is told.

    All memory is in an explicit state. Feeding a stream in pieces of any size gives the same firings as feeding
    it at once. A policy cannot tell a replay from live data.
    """

    state_type: ClassVar[type[TriggerState]] = TriggerState

    guards: Guards | None = Field(None, description="Limits on how often it may fire.")

    def initial_state(self) -> Any:
        """The state before the first sample; an instance of :attr:`state_type`."""
        return self.state_type()

    @abstractmethod
    def next_firing(self, state: Any, arrivals: Arrivals, observe: Observer) -> Step:
        """Looks at arrivals until the policy fires or they are used up.

        Args:
            state: of :attr:`state_type`; not modified.
            arrivals: samples not shown before.
            observe: answers what is in them.

        Returns:
            The new state and the first firing. With a firing, only ``firing.position`` arrivals count as seen:
            the caller shows the rest again, after the training, with the new state. Without one, all are seen.
        """

    @property
    def ticks(self) -> bool:
        """Whether :meth:`next_tick` ever answers a moment."""
        return False

    def next_tick(self, state: Any) -> int | None:
        """When the policy wants to look again even if nothing arrives, on the clock of arrivals, Unix seconds; None:
        only when something does."""
        return None

    def tick(self, state: Any, clock: int) -> Step:
        """The clock of arrivals has reached :meth:`next_tick` and nothing that arrived before it is left to be shown.

        A firing takes all samples shown so far; its position is 0.
        """
        return Step(state)

    def after_training(self, state: Any, outcome: TrainingOutcome) -> Any:
        """The state after a training that this trigger, or the one it is part of, caused; by default unchanged."""
        return state

    def fired_by_hand(self, state: Any) -> Any:
        """The state after a firing that nobody asked the policy about, with all samples shown so far; by default
        unchanged."""
        return state

    @property
    def needs_model(self) -> bool:
        """Whether it asks a trained model something, so that it cannot be simulated without training."""
        return False

    @property
    def needs_costs(self) -> bool:
        """Whether it needs to know what trainings cost, so that it cannot be simulated without training."""
        return False


TRIGGERS: Registry[Trigger] = Registry(
    "trigger",
    key="id",
    package="modyn.supervisor.triggers",
    group="modyn.triggers",
)
