"""Triggers that look at the data interval by interval: what they share."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.durations import Duration
from modyn.core.packed import EMPTY, Int64Column
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
    TriggerState,
)
from modyn.supervisor.triggers.spans import first_at_or_after

DEFAULT_DATA_POINTS = 1000

WARMUP_POLICIES = ("TimeTrigger", "DataAmountTrigger")


class IntervalState(TriggerState):
    """What every trigger of this kind remembers.

    Attributes:
        keys, timestamps: of the samples of the interval that is not complete yet.
        next_boundary: where an interval of data time ends, Unix seconds; None before the first sample.
        data_clock: largest event time of completed intervals.
        num_evaluated: intervals looked at so far.
        trained: whether there has been a training.
        model: the newest one.
        warmup: state of the warm-up policy.
    """

    keys: Int64Column = EMPTY
    timestamps: Int64Column = EMPTY
    next_boundary: int | None = None
    data_clock: int | None = None
    num_evaluated: int = 0
    trained: bool = False
    model: str | None = None
    warmup: dict[str, Any] | None = None

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)


class Interval(NamedTuple):
    """The samples of one evaluation.

    Attributes:
        number: 0, 1, 2 …
        keys, timestamps: int64 [n] in the order of arrival; n >= 1.
        data_clock: the largest event time seen so far, Unix seconds.
    """

    number: int
    keys: Int64Array
    timestamps: Int64Array
    data_clock: int


class Verdict(NamedTuple):
    """What an evaluation says.

    Attributes:
        state: the new one.
        decision: whether to fire.
        reason: one line for people.
        findings: the numbers behind it.
    """

    state: Any
    decision: bool
    reason: str
    findings: tuple[Finding, ...] = ()


class IntervalTrigger(Trigger):
    """A trigger that decides at the end of every evaluation interval.

    Intervals are so many samples, or so much data time (then an interval ends before the first sample at or after its
    boundary, as in :class:`~modyn.supervisor.triggers.time.TimeTrigger`). A firing takes all samples of its interval.
    The first interval always fires, because there is no model before it, and so does every one until there has been a
    training (guards or an ensemble may have held the first one back), or as long as a policy that needs a model has
    none. During the ``warmup_intervals`` intervals after the first ``warmup_policy`` decides; the trigger looks at them
    all the same, so that its criteria are calibrated when it takes over.
    """

    state_type = IntervalState

    evaluation_interval_data_points: PositiveInt | None = Field(
        None,
        description=f"Samples between two evaluations; {DEFAULT_DATA_POINTS:,} if `evaluation_interval` is not given.",
    )
    evaluation_interval: Duration | None = Field(
        None, description="Data time between two evaluations, instead of a number of samples."
    )
    warmup_intervals: NonNegativeInt | None = Field(
        None, description="Evaluations in which `warmup_policy` decides; 0 if there is none."
    )
    warmup_policy: Annotated[Trigger | None, TRIGGERS.field(optional=True)] = Field(
        None, description="A time or amount trigger that decides during the warm-up."
    )

    @model_validator(mode="after")
    def _check_intervals(self) -> Self:
        if self.evaluation_interval_data_points is not None and self.evaluation_interval is not None:
            raise ValueError(
                "evaluation_interval_data_points and evaluation_interval exclude each other; keep one of them"
            )
        if self.warmup_policy is not None and self.warmup_policy.plugin_name not in WARMUP_POLICIES:
            raise ValueError(
                f"warmup_policy: {self.warmup_policy.plugin_name} cannot decide inside of an interval; "
                f"expected {' or '.join(WARMUP_POLICIES)}"
            )
        if self.warmup_policy is not None and self.warmup_policy.guards is not None:
            raise ValueError("warmup_policy: guards have no effect here; give them to the trigger itself")
        if self.warmup_intervals and self.warmup_policy is None:
            raise ValueError(f"warmup_intervals is {self.warmup_intervals}; say with warmup_policy who decides then")
        return self

    @abstractmethod
    def evaluate(self, state: Any, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        """Looks at one interval.

        Args:
            state: of :attr:`state_type`; everything in it that belongs to the intervals themselves is up to date.
            warming_up: the decision is not used; what is measured should calibrate the criteria. Also said as long as
                nothing was trained.
        """

    def trained(self, state: Any, outcome: TrainingOutcome) -> Any:
        """The state after a training; ``state.model`` is the new model already."""
        return state

    def next_firing(self, state: Any, arrivals: Arrivals, observe: Observer) -> Step:
        if not len(arrivals):
            return Step(state)
        start, evaluations = 0, []
        while (end := self._end(state, arrivals, start)) is not None:
            started = time.perf_counter()
            keys = np.concatenate((state.keys, arrivals.keys[start:end]))
            timestamps = np.concatenate((state.timestamps, arrivals.timestamps[start:end]))
            boundary = self._boundary_after(state, arrivals, end)
            last = int(timestamps.max())
            clock = last if state.data_clock is None else max(state.data_clock, last)
            interval = Interval(state.num_evaluated, keys, timestamps, clock)
            state = state.but(keys=EMPTY, timestamps=EMPTY, next_boundary=boundary, data_clock=clock)
            state, decision, reason, findings = self._decide(state, interval, observe)
            state = state.but(num_evaluated=interval.number + 1)
            seconds = time.perf_counter() - started
            evaluations.append(Evaluation(int(timestamps.min()), last, len(keys), decision, reason, findings, seconds))
            start = end
            if decision:
                return Step(state, Firing(end, clock, reason), tuple(evaluations))
        rest = arrivals.slice(start, len(arrivals))
        state = state.but(
            keys=np.concatenate((state.keys, rest.keys)),
            timestamps=np.concatenate((state.timestamps, rest.timestamps)),
        )
        if self.evaluation_interval is not None:
            state = state.but(next_boundary=self._boundary(state, arrivals))
        return Step(state, None, tuple(evaluations))

    def after_training(self, state: Any, outcome: TrainingOutcome) -> Any:
        return self.trained(state.but(trained=True, model=outcome.model or state.model), outcome)

    def _decide(self, state: Any, interval: Interval, observe: Observer) -> Verdict:
        untrained = not state.trained or (self.needs_model and state.model is None)
        warming_up = untrained or interval.number <= (self.warmup_intervals or 0)
        verdict = self.evaluate(state, interval, observe, warming_up=warming_up)
        state, decision, reason = verdict.state, verdict.decision, verdict.reason
        if warming_up and self.warmup_policy is not None:
            state, decision = self._ask_warmup_policy(state, interval, observe)
            word = "fires" if decision else "does not fire"
            reason = f"warm-up: {self.warmup_policy.plugin_name} {word}"
        if untrained:
            decision, reason = True, "there is no model yet"
        return Verdict(state, decision, reason, verdict.findings)

    def _ask_warmup_policy(self, state: Any, interval: Interval, observe: Observer) -> tuple[Any, bool]:
        policy = self.warmup_policy
        assert policy is not None
        own = policy.initial_state() if state.warmup is None else policy.state_type.model_validate(state.warmup)
        left, fires = Arrivals(interval.keys, interval.timestamps), False
        while len(left):
            step = policy.next_firing(own, left, observe)
            own = step.state
            if step.firing is None:
                break
            fires, left = True, left.from_position(step.firing.position)
        return state.but(warmup=own.model_dump(mode="json")), fires

    def _end(self, state: Any, arrivals: Arrivals, start: int) -> int | None:
        """Where the current interval ends among the arrivals; None if it goes on after them."""
        if self.evaluation_interval is None:
            end: int = start + (self.evaluation_interval_data_points or DEFAULT_DATA_POINTS) - len(state.keys)
            return end if end <= len(arrivals) else None
        if start == len(arrivals):
            return None
        offset = first_at_or_after(arrivals.timestamps[start:], self._boundary(state, arrivals))
        return None if offset is None else start + offset

    def _boundary(self, state: Any, arrivals: Arrivals) -> int:
        """Where the current interval of data time ends, Unix seconds."""
        assert self.evaluation_interval is not None
        if state.next_boundary is not None:
            return int(state.next_boundary)
        return int(arrivals.timestamps[0]) + self.evaluation_interval  # the first sample of all

    def _boundary_after(self, state: Any, arrivals: Arrivals, end: int) -> int | None:
        """Where the interval ends that begins with a sample; intervals without samples are skipped."""
        if self.evaluation_interval is None:
            return None
        boundary = self._boundary(state, arrivals)
        passed = (int(arrivals.timestamps[end]) - boundary) // self.evaluation_interval + 1
        return boundary + self.evaluation_interval * passed
