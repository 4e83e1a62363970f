"""The contract every registered trigger keeps, and the exact firing points of each."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Firing, Trigger
from modyn.supervisor.triggers import DataAmountTrigger, TimeTrigger

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "DataAmountTrigger": [{"num_samples": 1}, {"num_samples": 7}],
    "TimeTrigger": [
        {"every": "10s"},
        {"every": "1m", "start_timestamp": 3},
        {"every": "7s", "start_timestamp": 10_000},
    ],
}
"""At least one configuration per trigger; a new trigger adds its own."""

CASES = [(name, config) for name in TRIGGERS.names() for config in EXAMPLES[name]]

timestamps = st.lists(st.integers(0, 300), max_size=60)


def make(name: str, config: dict[str, Any]) -> Trigger:
    return TRIGGERS.parse({TRIGGERS.key: name, **config})


def arrivals(times: list[int], first_key: int = 0) -> Arrivals:
    return Arrivals(np.arange(first_key, first_key + len(times), dtype=np.int64), np.array(times, dtype=np.int64))


def firings(trigger: Trigger, pieces: list[Arrivals], *, through_json: bool = False) -> list[tuple[int, Firing]]:
    """All firings as (number of samples seen by then, firing), feeding the pieces as the loop does."""
    state, seen, fired = trigger.initial_state(), 0, []
    for piece in pieces:
        rest = piece
        while len(rest):
            state, firing = trigger.next_firing(state, rest)
            if through_json:
                state = trigger.state_type.model_validate_json(state.model_dump_json())
            if firing is None:
                seen += len(rest)
                break
            assert 0 <= firing.position <= len(rest)
            seen += firing.position
            fired.append((seen, firing))
            rest = rest.from_position(firing.position)
    return fired


def points(trigger: Trigger, times: list[int]) -> list[tuple[int, int]]:
    """(samples seen, timestamp) of each firing over a stream fed at once."""
    return [(seen, firing.timestamp) for seen, firing in firings(trigger, [arrivals(times)])]


@pytest.mark.parametrize(("name", "config"), CASES)
@given(times=timestamps, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_pieces_of_any_size_give_the_same_firings(
    name: str, config: dict[str, Any], times: list[int], cuts: list[int]
) -> None:
    trigger = make(name, config)
    edges = sorted({0, len(times), *(min(cut, len(times)) for cut in cuts)})
    pieces = [arrivals(times[a:b], a) for a, b in itertools.pairwise(edges)]

    def summary(fired: list[tuple[int, Firing]]) -> list[tuple[int, int, str]]:
        return [(seen, firing.timestamp, firing.reason) for seen, firing in fired]

    whole = summary(firings(trigger, [arrivals(times)]))
    assert summary(firings(trigger, pieces)) == whole
    assert summary(firings(trigger, pieces, through_json=True)) == whole


@pytest.mark.parametrize(("name", "config"), CASES)
@given(times=timestamps)
def test_every_firing_has_new_data(name: str, config: dict[str, Any], times: list[int]) -> None:
    seen = [0, *(seen for seen, _ in firings(make(name, config), [arrivals(times)]))]
    assert all(a < b for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_configuration_survives_dump_and_parse(name: str, config: dict[str, Any]) -> None:
    trigger = make(name, config)
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


@pytest.mark.parametrize(("name", "config"), CASES)
def test_no_data_no_firing(name: str, config: dict[str, Any]) -> None:
    trigger = make(name, config)
    state = trigger.initial_state()
    assert trigger.next_firing(state, arrivals([])) == (state, None)


@given(times=timestamps, num_samples=st.integers(1, 70))
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
            while boundary <= time:
                boundary += every
        pending += 1
    return found


@given(times=timestamps, every=st.integers(1, 90), start=st.none() | st.integers(-50, 400))
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
        pytest.param([0, 1, 9], [], id="data left at the end do not fire"),
    ],
)
def test_time_on_adversarial_streams(times: list[int], expected: list[tuple[int, int]]) -> None:
    assert points(TimeTrigger(every="10s"), times) == expected


def test_time_searches_long_quiet_stretches() -> None:
    times = np.zeros(100_000, dtype=np.int64)
    times[77_777:] = 10
    state, firing = TimeTrigger(every=10).next_firing(
        TimeTrigger(every=10).initial_state(), Arrivals(np.arange(100_000), times)
    )
    assert firing is not None
    assert firing.position == 77_777
    assert state.next_boundary == 20


def test_times_beyond_all_calendars_are_shown_as_numbers() -> None:
    trigger = TimeTrigger(every="1d")
    milliseconds = np.array([1_600_000_000_000, 1_700_000_000_000])
    _, firing = trigger.next_firing(trigger.initial_state(), Arrivals(np.arange(2), milliseconds))
    assert firing is not None
    assert firing.reason.endswith("at 1600000086400")
