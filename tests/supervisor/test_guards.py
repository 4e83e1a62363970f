"""Guards let through exactly the firings that they should, against a slow reading of their definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.plugins.triggers import (
    TRIGGERS,
    Arrivals,
    Guards,
    Observer,
    Step,
    TrainingOutcome,
    Trigger,
    TriggerState,
)
from modyn.supervisor.guards import GuardedTrigger, guarded
from modyn.supervisor.triggers import DataAmountTrigger, ScheduleTrigger, TimeTrigger
from tests.helpers.feeding import CUTS, Feeder, ascending, cut, fed, points, stream

durations = st.none() | st.integers(1, 200)
guards = st.builds(
    lambda period, **limits: Guards(**limits, **(period or {})),
    cooldown=durations,
    cooldown_wall=durations,
    minimum_samples=st.none() | st.integers(1, 20),
    period=st.none() | st.fixed_dictionaries({"maximum_triggers": st.integers(1, 4), "per": st.integers(1, 300)}),
)
policies = st.builds(DataAmountTrigger, num_samples=st.integers(1, 12)) | st.builds(
    TimeTrigger, every=st.integers(1, 90)
)
streams = st.lists(
    st.tuples(st.integers(0, 300) | st.integers(-(10**12), 10**12), st.integers(0, 60)), max_size=60
).map(lambda rows: stream([time for time, _ in rows], ascending([gap for _, gap in rows]).tolist()))


def slow_guard(found: Sequence[tuple[int, int]], arrivals: Arrivals, guards: Guards) -> list[tuple[int, int]]:
    """Of a policy's firings (samples seen, timestamp), those that may pass."""
    passed: list[tuple[int, int, int, int]] = []  # with the data clock and the wall clock
    for seen, timestamp in found:
        data = max(timestamp, *arrivals.timestamps[:seen].tolist())
        wall = int(arrivals.clock[seen - 1])
        last = passed[-1] if passed else None
        if last and guards.cooldown and data < last[2] + guards.cooldown:
            continue
        if last and guards.cooldown_wall and wall < last[3] + guards.cooldown_wall:
            continue
        if guards.minimum_samples and seen - (last[0] if last else 0) < guards.minimum_samples:
            continue
        if guards.per and sum(then > data - guards.per for _, _, then, _ in passed) >= (guards.maximum_triggers or 0):
            continue
        passed.append((seen, timestamp, data, wall))
    return [(seen, timestamp) for seen, timestamp, _, _ in passed]


@settings(max_examples=300)
@given(policy=policies, limits=guards, arrivals=streams, cuts=CUTS)
def test_exactly_the_right_firings_pass(policy: Trigger, limits: Guards, arrivals: Arrivals, cuts: list[int]) -> None:
    found = fed(policy, [arrivals]).points
    trigger = policy.model_copy(update={"guards": limits})
    expected = slow_guard(found, arrivals, limits)
    told = fed(trigger, cut(arrivals, cuts), through_json=True)
    assert told.points == expected
    rows = [evaluation for evaluations in told.evaluations for evaluation in evaluations]
    assert len(rows) == len(found), "a firing that is held back is explained too"
    assert sum(row.reason.startswith("held back: ") for row in rows) == len(found) - len(expected)
    assert [row.decision for row in rows] == [seen in expected for seen in found]


@pytest.mark.parametrize(
    ("limits", "expected", "why"),
    [
        ({"cooldown": "30s"}, [1, 4, 7], "cooldown: 10s of 30s passed"),
        ({"minimum_samples": 3}, [3, 6, 9], "minimum_samples: 1 of 3 new samples"),
        ({"maximum_triggers": 2, "per": "1m"}, [1, 2, 7, 8], "maximum_triggers: 2 within 1m already"),
    ],
)
def test_what_is_held_back_and_why(limits: dict[str, Any], expected: list[int], why: str) -> None:
    """A sample every 10 seconds; the policy would fire at each."""
    policy = DataAmountTrigger(num_samples=1, guards=Guards(**limits))
    told = fed(policy, [stream(list(range(0, 90, 10)))])
    assert told.seen == expected
    held = [row for rows in told.evaluations for row in rows if not row.decision]
    assert f"held back: {why}; 1 new samples" in [row.reason for row in held]


def test_cooldowns_go_by_their_own_clocks() -> None:
    times, arrived = [0, 0, 100, 10, 20, 20, 131, 0], [0, 5, 6, 7, 31, 32, 33, 34]
    by_data = DataAmountTrigger(num_samples=2, guards=Guards(cooldown=30))
    assert fed(by_data, [stream(times, arrived)]).seen == [2, 4, 8], "a late sample does not turn the data clock back"
    by_wall = DataAmountTrigger(num_samples=2, guards=Guards(cooldown_wall=27))
    assert fed(by_wall, [stream(times, arrived)]).seen == [2, 6]


def test_a_window_slides() -> None:
    """Two firings within any minute, not two in each."""
    policy = TimeTrigger(every=1, guards=Guards(maximum_triggers=2, per=60))
    times = [0, 50, 55, 62, 111, 112, 116]
    assert points(policy, times) == [(1, 50), (2, 55), (4, 111), (6, 116)]


def test_ticks_are_guarded() -> None:
    trigger = ScheduleTrigger(cron="* * * * *", guards=Guards(minimum_samples=2))
    feeder = Feeder(trigger, through_json=True, untouched=True)
    for clock in (5, 65, 70, 130):
        feeder.tick_until(clock)
        feeder.feed(stream([clock]))
    assert feeder.told.seen == [3], "data of a firing that was held back belong to the next one"
    feeder.tick_until(180)
    assert feeder.told.seen == [3]
    feeder.feed(stream([185]))
    feeder.tick_until(240)
    assert feeder.told.seen == [3, 5]
    held = "held back: minimum_samples: 1 of 2 new samples; schedule '* * * * *' passed 1970-01-01 00:01:00 UTC"
    assert feeder.told.evaluations[0][0].reason == held


class Hears(Trigger):
    """Fires at each sample; counts its trainings."""

    class State(TriggerState):
        trainings: int = 0

    state_type = State

    def next_firing(self, state: Any, arrivals: Arrivals, observe: Observer) -> Step:
        return (
            DataAmountTrigger(num_samples=1)
            .next_firing(DataAmountTrigger.state_type(), arrivals, observe)
            ._replace(state=state)
        )

    def after_training(self, state: Any, outcome: TrainingOutcome) -> Any:
        return self.State(trainings=state.trainings + 1)


def test_a_policy_hears_of_trainings_only() -> None:
    feeder = Feeder(Hears(guards=Guards(minimum_samples=4)), through_json=True)
    feeder.feed(stream(list(range(11))))
    assert feeder.told.seen == [4, 8]
    assert feeder._state.policy["trainings"] == 2


def test_without_guards_a_trigger_stays_itself() -> None:
    trigger = DataAmountTrigger(num_samples=1)
    assert guarded(trigger) is trigger
    held = guarded(DataAmountTrigger(num_samples=1, guards=Guards(cooldown=1)))
    assert isinstance(held, GuardedTrigger)
    assert guarded(held) is held


def test_a_long_stretch_of_held_back_firings_is_quick() -> None:
    trigger = DataAmountTrigger(num_samples=10, guards=Guards(minimum_samples=20_000))
    times = np.arange(20_000).tolist()
    assert points(trigger, times) == [(20_000, 19_999)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"maximum_triggers": 2}, "maximum_triggers and per belong together"),
        ({"per": "1d"}, "maximum_triggers and per belong together"),
        ({"cooldown": "soon"}, "expected a duration such as 30s"),
        ({"minimum_samples": 0}, "greater than 0"),
    ],
)
def test_bad_guards_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TRIGGERS.parse({"id": "DataAmountTrigger", "num_samples": 1, "guards": config})
