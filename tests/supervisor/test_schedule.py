"""Moments of cron expressions, and what arrived before them."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.triggers import TRIGGERS
from modyn.supervisor.triggers import ManualTrigger, ScheduleTrigger
from tests.helpers.feeding import Feeder, ascending, cut, fed, stream

MINUTE, HOUR, DAY = 60, 3600, 86400


def slow_moments(minutes: list[int], hours: list[int], first: int, last: int) -> list[int]:
    """Every minute of UTC between two times (the first excluded) is looked at."""
    start = first // MINUTE * MINUTE
    return [
        moment
        for moment in range(start, last + 1, MINUTE)
        if moment > first and moment // MINUTE % 60 in minutes and moment // HOUR % 24 in hours
    ]


def slow_seen(clock: list[int], moments: list[int]) -> list[int]:
    """Samples seen at each firing, one sample and one moment at a time."""
    seen, found = 0, []
    for moment in moments:
        before = sum(time < moment for time in clock)
        if before > seen:
            found.append(before)
        seen = before
    return [count for count in found if count < len(clock)]  # the others wait for a tick


some = st.lists(st.integers(0, 23), min_size=1, max_size=3, unique=True)


@given(
    gaps=st.lists(st.integers(0, 100) | st.integers(0, 3 * HOUR), min_size=1, max_size=30),
    start=st.integers(-10 * DAY, 10 * DAY) | st.integers(-(10**10), 10**11),
    minutes=some,
    hours=some | st.just(list(range(24))),
    late=st.booleans(),
)
def test_fires_at_every_moment_before_which_something_arrived(
    gaps: list[int], start: int, minutes: list[int], hours: list[int], late: bool
) -> None:
    clock = ascending(gaps, start).tolist()
    hour = "*" if len(hours) == 24 else ",".join(map(str, hours))
    trigger = ScheduleTrigger(cron=f"{','.join(map(str, minutes))} {hour} * * *")
    times = [0] * len(clock) if late else clock
    expected = slow_seen(clock, slow_moments(minutes, hours, clock[0], clock[-1]))
    told = fed(trigger, [stream(times, clock if late else None)])
    assert told.seen == expected
    assert [fired.timestamp for fired in told.firings] == [max(times[:seen]) for seen in expected]


@given(
    gaps=st.lists(st.integers(0, 5) | st.integers(0, 5 * MINUTE), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=10),
)
def test_a_live_pipeline_hands_over_what_a_replay_does(gaps: list[int], cuts: list[int]) -> None:
    trigger = ScheduleTrigger(cron="*/2 * * * *")
    clock = ascending(gaps, 1_700_000_000)
    arrivals = stream(clock[::-1].tolist(), clock.tolist())
    live = Feeder(trigger, through_json=True)
    for piece in cut(arrivals, cuts):
        live.tick_until(int(piece.clock[0]))
        live.feed(piece)
    replay = fed(trigger, [arrivals])
    assert live.told.firings == replay.firings
    live.tick_until(int(clock[-1]) + 2 * MINUTE)
    assert live.told.seen[-1] == len(clock), "nothing is left once the next moment has come"
    assert live.told.seen[: len(replay.seen)] == replay.seen


def test_looks_again_only_while_something_is_pending() -> None:
    trigger = ScheduleTrigger(cron="0 3 * * *")
    state = trigger.next_firing(trigger.initial_state(), stream([5 * HOUR]), Feeder(trigger).observe).state
    assert trigger.next_tick(state) == DAY + 3 * HOUR
    early = trigger.tick(state, DAY)
    assert early.firing is None
    step = trigger.tick(early.state, DAY + 3 * HOUR)
    assert step.firing is not None
    assert (step.firing.position, step.firing.timestamp) == (0, 5 * HOUR)
    assert step.evaluations[-1].reason == "schedule '0 3 * * *' passed 1970-01-02 03:00:00 UTC"
    assert trigger.next_tick(step.state) is None


def local(text: str, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Zurich"), fold=fold).timestamp())


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        pytest.param("0 3 * * *", local("2024-01-01T12:00"), local("2024-01-02T03:00"), id="winter"),
        pytest.param("0 3 * * *", local("2024-07-01T12:00"), local("2024-07-02T03:00"), id="summer"),
        pytest.param("30 2 * * *", local("2024-03-31T01:00"), local("2024-03-31T03:00"), id="skipped"),
        pytest.param("30 2 * * *", local("2024-10-27T01:00"), local("2024-10-27T02:30"), id="the first of two"),
        pytest.param("30 2 * * *", local("2024-10-27T02:30"), local("2024-10-28T02:30"), id="not the second of two"),
        pytest.param("30 2 * * *", local("2024-10-27T02:10", 1), local("2024-10-28T02:30"), id="between the two"),
        pytest.param("0 * * * *", local("2024-10-27T02:00"), local("2024-10-27T02:00", 1), id="every hour comes twice"),
        pytest.param("0 0 29 2 *", local("2025-01-01T00:00"), local("2028-02-29T00:00"), id="leap day"),
        pytest.param("0 9 * * MON-FRI", local("2024-06-01T00:00"), local("2024-06-03T09:00"), id="names of weekdays"),
        pytest.param("0 9 L * *", local("2024-02-01T00:00"), local("2024-02-29T09:00"), id="last day of the month"),
    ],
)
def test_moments_of_a_time_zone(cron: str, after: int, expected: int) -> None:
    assert ScheduleTrigger(cron=cron, timezone="Europe/Zurich").moment_after(after) == expected


@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 * * * *", "15,45 1-3 * * *", "0 */2 * * *", "0 0 * * SUN"])
@pytest.mark.parametrize("day", ["2024-03-30T12:00", "2024-10-26T12:00"])
def test_the_next_moment_is_the_same_from_everywhere_before_it(cron: str, day: str) -> None:
    """Around both changes of clocks: moments found in a chain are those found from any time between them."""
    trigger = ScheduleTrigger(cron=cron, timezone="Europe/Zurich")
    chain = [local(day)]
    while chain[-1] < chain[0] + 2 * DAY:
        chain.append(trigger.moment_after(chain[-1]))
    assert all(a < b for a, b in itertools.pairwise(chain))
    for a, b in itertools.pairwise(chain):
        for time in np.linspace(a, b - 1, 40, dtype=np.int64):
            assert trigger.moment_after(int(time)) == b


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"cron": "0 3 * *"}, "has 4 fields; expected five fields"),
        ({"cron": "61 3 * * *"}, "bad minute; expected five fields"),
        ({"cron": "0 3 30 2 *"}, "day-of-month"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Zuerich"}, "did you mean 'Europe/Zurich'"),
        ({"cron": "0 3 * * *", "timezone": "../etc/passwd"}, "no time zone is named"),
        ({"cron": "0 3 * * *", "timezone": ""}, "no time zone is named"),
    ],
)
def test_bad_input_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TRIGGERS.parse({"id": "ScheduleTrigger", **config})


@pytest.mark.parametrize("time", [10**15, -(10**15), 2**62])
def test_times_that_no_calendar_knows_are_an_error(time: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{time}; expected Unix seconds"):
        fed(ScheduleTrigger(cron="0 3 * * *"), [stream([time])])


def test_a_manual_trigger_never_fires() -> None:
    told = fed(ManualTrigger(), [stream(list(range(1000)))])
    assert told.firings == []
    assert told.evaluations == [()]
