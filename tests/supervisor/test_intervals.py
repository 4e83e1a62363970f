"""What triggers share that decide interval by interval."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.plugins.triggers import Arrivals, Evaluation, Finding, Firing, Observer, TrainingOutcome
from modyn.supervisor.triggers.amount import DataAmountTrigger
from modyn.supervisor.triggers.intervals import Interval, IntervalState, IntervalTrigger, Verdict
from modyn.supervisor.triggers.time import TimeTrigger
from tests.helpers.observing import ArrayObserver

OBSERVER = ArrayObserver(np.zeros((1, 1)))
DEFAULT = 1000


class SumState(IntervalState):
    total: int = 0
    seen: tuple[tuple[int, bool, str | None], ...] = ()
    trainings: int = 0


class SumTrigger(IntervalTrigger):
    """Fires when the keys of an interval have an even sum."""

    state_type = SumState
    asks_a_model: bool = False

    def evaluate(self, state: SumState, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        total = int(interval.keys.sum())
        seen = (*state.seen, (interval.number, warming_up, state.model))
        state = state.but(total=state.total + total, seen=seen)
        return Verdict(state, total % 2 == 0, f"{total} at {interval.data_clock}", (Finding("sum", float(total)),))

    def trained(self, state: SumState, outcome: TrainingOutcome) -> SumState:
        assert outcome.model is None or state.model == outcome.model
        return state.but(trainings=state.trainings + 1)

    @property
    def needs_model(self) -> bool:
        return self.asks_a_model


def arrivals(times: list[int], first_key: int = 0) -> Arrivals:
    return Arrivals(np.arange(first_key, first_key + len(times)), np.array(times, dtype=np.int64))


def run(
    trigger: IntervalTrigger, stream: Arrivals, cuts: list[int], *, through_json: bool = False, trains: bool = True
) -> tuple[list[Firing], list[tuple[Any, ...]], Any]:
    """All firings by their position in the stream, all evaluations without their seconds, and the last state."""
    state, fired, evaluations = trigger.initial_state(), [], []
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    for first, end in itertools.pairwise(edges):
        start = first
        while True:
            before = state.model_dump_json()
            step = trigger.next_firing(state, stream.slice(start, end), OBSERVER)
            assert state.model_dump_json() == before
            state = step.state
            evaluations += [plain(evaluation) for evaluation in step.evaluations]
            if through_json:
                state = trigger.state_type.model_validate_json(state.model_dump_json())
            if step.firing is None:
                break
            assert step.evaluations[-1].decision
            assert step.evaluations[-1].reason == step.firing.reason
            start += step.firing.position
            fired.append(replace(step.firing, position=start))
            if trains:
                outcome = TrainingOutcome(len(fired), f"model {len(fired)}", 1, 1.0)
                state = trigger.after_training(state, outcome)
    return fired, evaluations, state


def plain(evaluation: Evaluation) -> tuple[Any, ...]:
    return (
        evaluation.first_timestamp,
        evaluation.last_timestamp,
        evaluation.num_samples,
        evaluation.decision,
        evaluation.reason,
        evaluation.findings,
    )


def slow_intervals(times: list[int], points: int | None, every: int | None) -> list[list[int]]:
    """Positions of the samples of each complete interval, one sample at a time."""
    complete: list[list[int]] = []
    current: list[int] = []
    boundary = None
    for position, time in enumerate(times):
        if every is not None:
            boundary = times[0] + every if boundary is None else boundary
            if time >= boundary:
                complete.append(current)
                current = []
            while time >= boundary:
                boundary += every
        current.append(position)
        if points is not None and len(current) == points:
            complete.append(current)
            current = []
    return complete


kinds: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.integers(1, 25).map(lambda points: {"evaluation_interval_data_points": points}),
    st.integers(1, 60).map(lambda every: {"evaluation_interval": every}),
)
warmups: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.tuples(st.integers(0, 4), st.integers(1, 30)).map(
        lambda pair: {"warmup_intervals": pair[0], "warmup_policy": DataAmountTrigger(num_samples=pair[1])}
    ),
    st.tuples(st.integers(0, 4), st.integers(1, 90)).map(
        lambda pair: {"warmup_intervals": pair[0], "warmup_policy": TimeTrigger(every=pair[1])}
    ),
)
streams = st.lists(st.integers(-100, 300), max_size=80)


@settings(deadline=None)
@given(times=streams, kind=kinds, warmup=warmups, cuts=st.lists(st.integers(0, 80), max_size=8), model=st.booleans())
def test_pieces_of_any_size_and_json_change_nothing(
    times: list[int], kind: dict[str, Any], warmup: dict[str, Any], cuts: list[int], model: bool
) -> None:
    trigger = SumTrigger(**kind, **warmup, asks_a_model=model)
    fired, evaluations, state = run(trigger, arrivals(times), [])
    for through_json in (False, True):
        again, evaluations_again, state_again = run(trigger, arrivals(times), cuts, through_json=through_json)
        assert (again, evaluations_again) == (fired, evaluations)
        assert state_again.model_dump_json() == state.model_dump_json()


@settings(deadline=None)
@given(times=streams, kind=kinds, ordered=st.booleans(), trains=st.booleans())
def test_intervals_and_firings_follow_the_definition(
    times: list[int], kind: dict[str, Any], ordered: bool, trains: bool
) -> None:
    times = sorted(times) if ordered else times
    trigger = SumTrigger(**kind)
    fired, evaluations, state = run(trigger, arrivals(times), [], trains=trains)
    intervals = slow_intervals(times, kind.get("evaluation_interval_data_points"), kind.get("evaluation_interval"))
    decisions = [number == 0 or not trains or sum(positions) % 2 == 0 for number, positions in enumerate(intervals)]
    clocks = [max(times[: positions[-1] + 1]) for positions in intervals]
    assert [(row[:4]) for row in evaluations] == [
        (min(own := [times[i] for i in positions]), max(own), len(own), decision)
        for positions, decision in zip(intervals, decisions, strict=True)
    ]
    assert [(firing.position, firing.timestamp) for firing in fired] == [
        (positions[-1] + 1, clock)
        for positions, clock, decision in zip(intervals, clocks, decisions, strict=True)
        if decision
    ]
    seen = [position for positions in intervals for position in positions]
    assert state.total == sum(seen)
    assert state.keys.tolist() == list(range(len(seen), len(times)))


def test_an_interval_of_data_time_ends_before_the_sample_that_reaches_its_boundary() -> None:
    fired, evaluations, _ = run(SumTrigger(evaluation_interval="10s"), arrivals([0, 4, 9, 10, 12, 45, 60]), [])
    assert [row[:3] for row in evaluations] == [(0, 9, 3), (10, 12, 2), (45, 45, 1)]
    assert [(firing.position, firing.timestamp) for firing in fired] == [(3, 9)]  # then the sums are 7 and 5


def test_without_keys_an_interval_has_a_thousand_samples() -> None:
    fired, evaluations, _ = run(SumTrigger(), arrivals(list(range(2 * DEFAULT + 1))), [])
    assert [row[2] for row in evaluations] == [DEFAULT, DEFAULT]
    assert fired[0].position == DEFAULT


def test_the_first_interval_fires_until_there_was_a_training() -> None:
    """Keys 0, 1, 2 … one a sample: odd sums do not fire by themselves."""
    trigger = SumTrigger(evaluation_interval_data_points=1)
    one = trigger.next_firing(trigger.initial_state(), arrivals([5], 1), OBSERVER)
    assert one.firing == Firing(1, 5, "there is no model yet")
    held_back = trigger.next_firing(one.state, arrivals([6], 3), OBSERVER)
    assert held_back.firing is not None
    trained = trigger.after_training(held_back.state, TrainingOutcome(1, "m", 2, 1.0))
    assert trigger.next_firing(trained, arrivals([7], 5), OBSERVER).firing is None
    nothing = trigger.after_training(held_back.state, TrainingOutcome(1, None, 0, 0.0))
    assert trigger.next_firing(nothing, arrivals([7], 5), OBSERVER).firing is None


def test_a_policy_that_needs_a_model_fires_until_there_is_one() -> None:
    trigger = SumTrigger(evaluation_interval_data_points=1, asks_a_model=True)
    state = trigger.next_firing(trigger.initial_state(), arrivals([5], 1), OBSERVER).state
    state = trigger.after_training(state, TrainingOutcome(0, None, 0, 0.0))
    step = trigger.next_firing(state, arrivals([6], 3), OBSERVER)
    assert step.firing == Firing(1, 6, "there is no model yet")
    state = trigger.after_training(step.state, TrainingOutcome(1, "m", 2, 1.0))
    assert trigger.next_firing(state, arrivals([7], 5), OBSERVER).firing is None
    state = trigger.after_training(state, TrainingOutcome(2, None, 0, 0.0))
    assert state.model == "m"  # a training without samples leaves the model before it


def test_during_the_warm_up_the_policy_decides_and_the_trigger_looks() -> None:
    """Intervals of 2 samples have odd sums: after the warm-up nothing fires."""
    trigger = SumTrigger(
        evaluation_interval_data_points=2, warmup_intervals=4, warmup_policy=DataAmountTrigger(num_samples=4)
    )
    fired, evaluations, state = run(trigger, arrivals(list(range(16))), [])
    assert [firing.position for firing in fired] == [2, 4, 8]
    assert [row[4] for row in evaluations[:5]] == [
        "there is no model yet",
        "warm-up: DataAmountTrigger fires",
        "warm-up: DataAmountTrigger does not fire",
        "warm-up: DataAmountTrigger fires",
        "warm-up: DataAmountTrigger does not fire",
    ]
    assert [warming_up for _, warming_up, _ in state.seen] == [True] * 5 + [False] * 3
    assert [model for _, _, model in state.seen] == [None, "model 1"] + ["model 2"] * 2 + ["model 3"] * 4
    assert state.trainings == 3


def test_a_time_policy_may_decide_during_the_warm_up() -> None:
    trigger = SumTrigger(evaluation_interval_data_points=2, warmup_intervals=3, warmup_policy=TimeTrigger(every="4s"))
    fired, _, _ = run(trigger, arrivals(list(range(16))), [])
    assert [firing.position for firing in fired] == [
        2,
        6,
    ]  # boundaries at 4, 8: the second is reached after the warm-up


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"evaluation_interval_data_points": 3, "evaluation_interval": "1d"}, "exclude each other"),
        ({"warmup_intervals": 3}, "warmup_intervals is 3; say with warmup_policy who decides then"),
        (
            {"warmup_intervals": 3, "warmup_policy": {"id": "DataAmountTrigger", "num_samples": 3, "guards": {}}},
            "warmup_policy: guards have no effect here",
        ),
        ({"evaluation_interval_data_points": 0}, "greater than 0"),
    ],
)
def test_wrong_keys_are_explained(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        SumTrigger.model_validate(keys)


def test_only_simple_policies_may_decide_during_the_warm_up() -> None:
    with pytest.raises(ValidationError, match="expected TimeTrigger or DataAmountTrigger"):
        SumTrigger(warmup_intervals=1, warmup_policy=SumTrigger())
