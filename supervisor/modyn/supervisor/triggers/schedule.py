"""Retrain at the moments of a cron expression."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime
from time import perf_counter
from typing import Self

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Firing, Observer, Step, Trigger
from modyn.supervisor.triggers.spans import SpanState, first_at_or_after, moment_text

_EXPECTED = (
    "expected five fields: minute hour day-of-month month day-of-week, such as '0 3 * * *' for every day at 3:00"
)


class ScheduleState(SpanState):
    """
    Attributes:
        next_moment: the first moment after the oldest pending sample arrived, Unix seconds; None if nothing is pending.
        data_clock: largest event time seen, Unix seconds.
    """

    next_moment: int | None = None
    data_clock: int | None = None

    def after(self, timestamps: Int64Array) -> Self:
        seen = super().after(timestamps)
        if seen.last_timestamp is None or (seen.data_clock is not None and seen.last_timestamp <= seen.data_clock):
            return seen
        return seen.model_copy(update={"data_clock": seen.last_timestamp})


@TRIGGERS.register("ScheduleTrigger")
class ScheduleTrigger(Trigger):
    """Fires at the moments of a cron expression, with what arrived before them.

    The clock is that of arrivals: the wall clock in live mode, the recorded arrival times in a replay by arrival, event
    times in a replay by event time. A sample that arrives exactly at a moment belongs to the next one. A moment before
    which nothing new arrived does not fire. A live pipeline fires at the moment itself; a replay notices that it has
    passed at the next sample: both hand over the same data.

    Where clocks are set back, a fixed time of day that comes twice counts once; where they are set forward, one that is
    skipped counts at the end of the gap (as in Debian's cron).

    >>> import numpy as np
    >>> trigger = ScheduleTrigger(cron="0 3 * * *")
    >>> arrivals = Arrivals(keys=np.arange(4), timestamps=np.array([0, 10_000, 10_800, 90_000]))
    >>> step = trigger.next_firing(trigger.initial_state(), arrivals, observe=None)
    >>> step.firing.position, step.firing.reason
    (2, "schedule '0 3 * * *' passed 1970-01-01 03:00:00 UTC")
    """

    state_type = ScheduleState

    cron: str = Field(description="Minute, hour, day of month, month and day of week, as in crontab.")
    timezone: str = Field("UTC", description="Time zone of the expression, such as `Europe/Zurich`.")

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, expression: str) -> str:
        if len(expression.split()) != 5:
            raise ValueError(f"has {len(expression.split())} fields; {_EXPECTED}")
        try:
            moments = CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"{str(error).lower()}; {_EXPECTED}") from error
        if next(moments, None) is None:
            raise ValueError(f"no date ever matches; {_EXPECTED}")
        return expression

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            close = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1, cutoff=0.5)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"no time zone is named {name!r}{hint}; expected one such as 'Europe/Zurich'") from error
        return name

    def next_firing(self, state: ScheduleState, arrivals: Arrivals, observe: Observer) -> Step:
        started = perf_counter()
        clock = arrivals.clock
        if not len(clock):
            return Step(state)
        moment = state.next_moment
        if moment is None:
            moment = self.moment_after(int(clock[0]))
        position = first_at_or_after(clock, moment)
        if position is None:
            return Step(state.after(arrivals.timestamps).model_copy(update={"next_moment": moment}))
        return self._fire(state.after(arrivals.timestamps[:position]), position, moment, int(clock[position]), started)

    @property
    def ticks(self) -> bool:
        return True

    def fired_by_hand(self, state: ScheduleState) -> ScheduleState:
        return ScheduleState(data_clock=state.data_clock)

    def next_tick(self, state: ScheduleState) -> int | None:
        return state.next_moment

    def tick(self, state: ScheduleState, clock: int) -> Step:
        if state.next_moment is None or clock < state.next_moment:
            return Step(state)
        return self._fire(state, 0, state.next_moment, clock, perf_counter())

    def moment_after(self, seconds: int) -> int:
        """The first moment later than a time, both in Unix seconds.

        Raises:
            InvalidInputError: the time lies outside of the calendar.
        """
        try:
            start = datetime.fromtimestamp(seconds, zoneinfo.ZoneInfo(self.timezone))
            for moment in CronSim(self.cron, start):
                found = int(moment.timestamp())
                if found > seconds:  # else a time of day that comes twice, and that was the first time
                    return found
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidInputError(
                f"ScheduleTrigger: a sample has the time {seconds}; expected Unix seconds of the years 1 to 9999"
            ) from error
        raise InvalidInputError(f"ScheduleTrigger: cron: {self.cron!r} has no moment after {moment_text(seconds)}")

    def _fire(self, seen: ScheduleState, position: int, moment: int, clock: int, started: float) -> Step:
        assert seen.data_clock is not None, "there are pending samples"
        text = moment_text(moment, zoneinfo.ZoneInfo(self.timezone))
        reason = f"schedule {self.cron!r} passed {text} {self.timezone}"
        evaluation = seen.fired(reason, (), started)
        state = ScheduleState(data_clock=seen.data_clock)
        return Step(state, Firing(position, seen.data_clock, reason), (evaluation,))
