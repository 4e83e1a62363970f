"""The exact firing points of triggers by time and amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.supervisor.triggers import DataAmountTrigger, TimeTrigger
from tests.helpers.feeding import TIMES, Feeder, fed, points, stream


@given(times=TIMES, num_samples=st.integers(1, 70))
def test_amount_counts(times: list[int], num_samples: int) -> None:
    trigger = DataAmountTrigger(num_samples=num_samples)
    expected = [(n, times[n - 1]) for n in range(num_samples, len(times) + 1, num_samples)]
    assert points(trigger, times) == expected


def slow_time_points(times: list[int], every: int, start: int | None) -> list[tuple[int, int]]:
    """One sample at a time, straight from the definition."""
    if not times:
        return []
    boundary = (times[0] if start is None else start) + every
    pending, found = 0, []
    for seen, time in enumerate(times):
        if time >= boundary:
            if pending:
                found.append((seen, time))
                pending = 0
            boundary += -((boundary - time - 1) // every) * every
        pending += 1
    return found


EVENT_TIMES = TIMES | st.lists(st.integers(-(10**15), 10**15) | st.integers(-50, 50), max_size=30)


@given(times=EVENT_TIMES, every=st.integers(1, 90), start=st.none() | st.integers(-50, 400))
def test_time_equals_the_definition_on_any_order(times: list[int], every: int, start: int | None) -> None:
    trigger = TimeTrigger(every=every, start_timestamp=start)
    assert points(trigger, times) == slow_time_points(times, every, start)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param([0, 5, 10, 11], [(2, 10)], id="a sample on the boundary belongs to the next interval"),
        pytest.param([0, 95, 96], [(1, 95)], id="a gap over many boundaries fires once"),
        pytest.param([0, 10, 10, 10, 20], [(1, 10), (4, 20)], id="ties on a boundary stay together"),
        pytest.param([0, 12, 3, 25], [(1, 12), (3, 25)], id="a late sample belongs to the open interval"),
        pytest.param([-25, -16, -15, -1], [(2, -15), (3, -1)], id="times before 1970"),
        pytest.param([0, 1, 9], [], id="data left at the end do not fire"),
    ],
)
def test_time_on_adversarial_streams(times: list[int], expected: list[tuple[int, int]]) -> None:
    assert points(TimeTrigger(every="10s"), times) == expected


def test_a_first_sample_on_a_boundary_is_no_interval() -> None:
    assert points(TimeTrigger(every="10s", start_timestamp=0), [10, 11, 20]) == [(2, 20)]


def test_time_searches_long_quiet_stretches() -> None:
    times = [0] * 77_777 + [10] * 22_223
    feeder = Feeder(TimeTrigger(every=10))
    feeder.feed(stream(times))
    assert feeder.told.points == [(77_777, 10)]


def test_what_simple_triggers_explain() -> None:
    told = fed(TimeTrigger(every=10), [stream([3, 1, 13, 14])])
    (evaluation,) = told.evaluations[0]
    assert (evaluation.first_timestamp, evaluation.last_timestamp, evaluation.num_samples) == (1, 3, 2)
    assert (evaluation.findings[0].statistic, evaluation.findings[0].threshold) == (10, 10)


def test_times_beyond_all_calendars_are_shown_as_numbers() -> None:
    told = fed(TimeTrigger(every="1d"), [stream([1_600_000_000_000, 1_700_000_000_000])])
    assert told.firings[0].reason.endswith("at 1600000086400")
