"""Ensembles of simple triggers, and slow triggers that theirs should equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from modyn.core.plugins.ensembles import ENSEMBLE_STRATEGIES
from modyn.core.plugins.triggers import Trigger
from modyn.supervisor.triggers import DataAmountTrigger, EnsembleTrigger, ScheduleTrigger, TimeTrigger
from tests.helpers.feeding import ascending, stream


class SlowAmount:
    def __init__(self, size: int) -> None:
        self.size, self.pending = size, 0

    def before(self, time: int, clock: int) -> bool:
        return False

    def after(self) -> bool:
        self.pending = (self.pending + 1) % self.size
        return self.pending == 0


class SlowTime:
    def __init__(self, every: int, *, by_clock: bool) -> None:
        self.every, self.by_clock = every, by_clock
        self.boundary: int | None = None
        self.pending = False

    def before(self, time: int, clock: int) -> bool:
        now = clock if self.by_clock else time
        if self.boundary is None:  # schedules lie on multiples of their period, times start at the first sample
            self.boundary = (now // self.every + 1) * self.every if self.by_clock else now + self.every
        if now < self.boundary:
            return False
        self.boundary += ((now - self.boundary) // self.every + 1) * self.every
        fires, self.pending = self.pending, False
        return fires

    def after(self) -> bool:
        self.pending = True
        return False


kinds = st.one_of(
    st.tuples(st.just("amount"), st.integers(1, 9)),
    st.tuples(st.just("time"), st.sampled_from([10, 20, 60]) | st.integers(1, 90)),
    st.tuples(st.just("schedule"), st.just(120)),
)


def subtrigger(kind: str, size: int) -> tuple[Trigger, Any]:
    """A trigger, and the slow one that it should equal."""
    if kind == "amount":
        return DataAmountTrigger(num_samples=size), SlowAmount(size)
    if kind == "time":
        return TimeTrigger(every=size), SlowTime(size, by_clock=False)
    return ScheduleTrigger(cron="*/2 * * * *"), SlowTime(size, by_clock=True)


def ensemble(strategy: str, triggers: Sequence[Trigger], **fields: Any) -> EnsembleTrigger:
    chosen = ENSEMBLE_STRATEGIES.parse({"id": strategy, **({"n": 2} if strategy == "AtLeastN" else {})})
    names = "abcdefgh"[: len(triggers)]
    return EnsembleTrigger(subtriggers=dict(zip(names, triggers, strict=True)), ensemble_strategy=chosen, **fields)


streams = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=60).flatmap(
    lambda rows: st.sampled_from(
        [
            stream([time for time, _ in rows], ascending([gap for _, gap in rows]).tolist()),
            stream(sorted(time for time, _ in rows)),
            stream([time for time, _ in rows]),
        ]
    )
)
