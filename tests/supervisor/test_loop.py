from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.core.errors import ConflictError
from modyn.core.keysets import KeySet
from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Evaluation, Firing, Guards, Observer, Step, Trigger
from modyn.supervisor.journal import EvaluationRow, TriggerRow
from modyn.supervisor.loop import TriggerLoop
from modyn.supervisor.triggers import DataAmountTrigger, TimeTrigger
from modyn.supervisor.triggers.time import TimeState

samples = st.lists(st.integers(0, 200), min_size=1, max_size=80)
triggers = st.one_of(
    st.builds(DataAmountTrigger, num_samples=st.integers(1, 30)),
    st.builds(TimeTrigger, every=st.integers(1, 50)),
)


@dataclass
class Recorder:
    """Stands for selection and training: remembers what it was handed."""

    keys: list[list[int]] = field(default_factory=list)
    rows: list[TriggerRow] = field(default_factory=list)
    evaluations: list[EvaluationRow] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def handle(self, firing: Firing, new_data: KeySet, row: TriggerRow) -> TriggerRow:
        self.keys.append(new_data.to_array().tolist())
        self.order.append(f"trigger {row.trigger_index}")
        return replace(row, model="m", samples=len(new_data))

    def done(self, row: TriggerRow, state: dict[str, Any]) -> None:
        self.rows.append(row)

    def explain(self, rows: Sequence[EvaluationRow]) -> None:
        self.evaluations += rows
        self.order += [f"evaluation {row.number}" for row in rows]


class Blind(Observer):
    """Of triggers that look at nothing."""

    def embeddings(self, keys: Int64Array, model: str) -> NoReturn:
        raise AssertionError

    def columns(self, keys: Int64Array, names: tuple[str, ...]) -> NoReturn:
        raise AssertionError

    def outcomes(
        self, keys: Int64Array, model: str, *, known_at: int, scores: bool, newest_key: int | None = None
    ) -> NoReturn:
        raise AssertionError

    def generator(self, index: int) -> NoReturn:
        raise AssertionError


def new_loop(trigger: Trigger, recorder: Recorder, maximum: int | None = None) -> TriggerLoop:
    return TriggerLoop(
        trigger,
        Blind(),
        handle=recorder.handle,
        done=recorder.done,
        explain=recorder.explain,
        maximum_triggers=maximum,
    )


def arrivals(first_key: int, *times: int) -> Arrivals:
    return Arrivals(np.arange(first_key, first_key + len(times), dtype=np.int64), np.array(times, dtype=np.int64))


def run(
    trigger: Trigger, times: list[int], cuts: list[int], maximum: int | None = None
) -> tuple[Recorder, TriggerLoop]:
    recorder = Recorder()
    loop = new_loop(trigger, recorder, maximum)
    edges = sorted({0, len(times), *(min(cut, len(times)) for cut in cuts)})
    for a, b in itertools.pairwise(edges):
        loop.feed(Arrivals(np.arange(a, b, dtype=np.int64), np.array(times[a:b], dtype=np.int64)))
    return recorder, loop


@given(trigger=triggers, times=samples, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_every_sample_belongs_to_at_most_one_trigger_in_order(
    trigger: Trigger, times: list[int], cuts: list[int]
) -> None:
    recorder, loop = run(trigger, times, cuts)
    handed = [key for keys in recorder.keys for key in keys]
    assert handed == list(range(len(handed)))
    assert loop.progress.samples_seen == len(times)
    assert loop.progress.data_clock == max(times)
    assert [row.trigger_index for row in recorder.rows] == list(range(len(recorder.rows)))


@given(trigger=triggers, times=samples, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_how_arrivals_are_cut_does_not_matter(trigger: Trigger, times: list[int], cuts: list[int]) -> None:
    pieces, whole = run(trigger, times, cuts)[0], run(trigger, times, [])[0]
    assert pieces.keys == whole.keys
    assert pieces.rows == whole.rows


@given(trigger=triggers, times=samples)
def test_spans_are_those_of_the_data_handed_over(trigger: Trigger, times: list[int]) -> None:
    recorder, _ = run(trigger, times, [])
    handed: list[int] = []
    for keys, row in zip(recorder.keys, recorder.rows, strict=True):
        own = [times[key] for key in keys]
        handed += own
        assert row.first_timestamp == min(own)
        assert row.last_timestamp == max(handed)  # cumulative: late data do not move it back
        assert row.new_samples == len(keys)


@given(trigger=triggers, times=samples, maximum=st.integers(1, 4), cuts=st.lists(st.integers(0, 80), max_size=3))
def test_no_trigger_after_the_maximum(trigger: Trigger, times: list[int], maximum: int, cuts: list[int]) -> None:
    limited, unlimited = run(trigger, times, cuts, maximum)[0], run(trigger, times, cuts)[0]
    assert limited.rows == unlimited.rows[:maximum]


@given(trigger=triggers, times=samples, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_every_firing_is_explained_before_it_is_handled(trigger: Trigger, times: list[int], cuts: list[int]) -> None:
    recorder, _ = run(trigger, times, cuts)
    assert [row.number for row in recorder.evaluations] == list(range(len(recorder.evaluations)))
    assert [row.trigger_index for row in recorder.evaluations] == [row.trigger_index for row in recorder.rows]
    assert recorder.order == [
        f"{what} {row.number}" for row in recorder.evaluations for what in ("evaluation", "trigger")
    ]
    for row, trigger_row in zip(recorder.evaluations, recorder.rows, strict=True):
        assert row.evaluation.decision
        assert row.evaluation.reason == trigger_row.reason
        assert row.evaluation.num_samples == trigger_row.new_samples


@dataclass(frozen=True)
class _Looking:
    """What :class:`Thirds` remembers."""

    seen: int = 0

    def model_dump(self, *, mode: str) -> dict[str, int]:
        return {"seen": self.seen}


class Thirds(Trigger):
    """Looks at every sample, fires at every third, and wants to look again 10 s after the last sample."""

    def initial_state(self) -> _Looking:
        return _Looking()

    def next_firing(self, state: _Looking, arrivals: Arrivals, observe: Observer) -> Step:
        evaluations: list[Evaluation] = []
        for position, time in enumerate(arrivals.timestamps.tolist()):
            fires = (state.seen + position) % 3 == 2
            evaluations.append(Evaluation(time, time, 1, decision=fires, reason="third" if fires else "not the third"))
            if fires:
                state = _Looking(state.seen + position + 1)
                return Step(state, Firing(position + 1, time, "third"), tuple(evaluations))
        return Step(_Looking(state.seen + len(arrivals)), None, tuple(evaluations))

    def next_tick(self, state: _Looking) -> int | None:
        return 10 * state.seen

    def tick(self, state: _Looking, clock: int) -> Step:
        evaluation = Evaluation(0, clock, 0, decision=True, reason="it is time")
        return Step(_Looking(0), Firing(0, clock, "it is time"), (evaluation,))


def test_evaluations_that_do_not_fire_are_explained_too() -> None:
    recorder = Recorder()
    loop = new_loop(Thirds(), recorder)
    loop.feed(arrivals(0, 1, 2))
    assert [(row.number, row.trigger_index) for row in recorder.evaluations] == [(0, None), (1, None)]
    loop.feed(arrivals(2, 3, 4, 5))
    assert [row.trigger_index for row in recorder.evaluations] == [None, None, 0, None, None]
    assert recorder.keys == [[0, 1, 2]]
    assert recorder.order[2:4] == ["evaluation 2", "trigger 0"]


def ticks(loop: TriggerLoop) -> int | None:
    return loop.next_tick


def test_a_tick_takes_what_was_shown_so_far_and_comes_only_if_there_is_something() -> None:
    recorder = Recorder()
    loop = new_loop(Thirds(), recorder, 2)
    assert ticks(loop) is None
    loop.feed(arrivals(0, 1, 2))
    assert ticks(loop) == 20
    loop.tick(20)
    assert recorder.keys == [[0, 1]]
    assert (recorder.rows[0].timestamp, recorder.rows[0].reason) == (20, "it is time")
    assert ticks(loop) is None, "nothing is pending"
    loop.feed(arrivals(2, 3, 4, 5, 6))
    assert loop.exhausted
    assert ticks(loop) is None


def test_a_trigger_by_hand_takes_what_is_pending_and_the_policy_goes_on() -> None:
    recorder = Recorder()
    loop = new_loop(DataAmountTrigger(num_samples=4), recorder)
    with pytest.raises(ConflictError, match="no new samples came since the last trigger"):
        loop.fire("asked for by hand")
    loop.feed(arrivals(0, 5, 3, 9))
    loop.fire("asked for by hand")
    assert (recorder.keys, recorder.rows[0].reason, recorder.rows[0].timestamp) == ([[0, 1, 2]], "asked for by hand", 9)
    [row] = recorder.evaluations
    assert (row.trigger_index, row.evaluation.first_timestamp, row.evaluation.last_timestamp) == (0, 3, 9)
    assert (row.evaluation.num_samples, row.evaluation.decision) == (3, True)
    with pytest.raises(ConflictError, match="no new samples"):
        loop.check_can_fire()
    loop.feed(arrivals(3, 10, 11))
    loop.fire("again")
    assert recorder.keys == [[0, 1, 2], [3, 4]], "the policy counts what came since"
    loop.feed(arrivals(5, *range(12, 17)))
    assert recorder.keys[2:] == [[5, 6, 7, 8]]
    assert [row.trigger_index for row in recorder.evaluations] == [0, 1, 2]


def test_no_trigger_by_hand_after_the_maximum() -> None:
    recorder = Recorder()
    loop = new_loop(DataAmountTrigger(num_samples=10), recorder, 1)
    loop.feed(arrivals(0, 1))
    loop.fire("by hand")
    loop.feed(arrivals(1, 2))
    with pytest.raises(ConflictError, match="all of its 1 triggers"):
        loop.fire("by hand")


class Stubborn(TimeTrigger):
    """Takes no notice of what is fired by hand."""

    def fired_by_hand(self, state: TimeState) -> TimeState:
        return state


def test_a_time_trigger_has_nothing_left_after_a_trigger_by_hand() -> None:
    recorder = Recorder()
    loop = new_loop(TimeTrigger(every=10), recorder)
    loop.feed(arrivals(0, 0, 5))
    loop.fire("by hand")
    loop.feed(arrivals(2, 12, 13, 20))
    assert recorder.keys == [[0, 1], [2, 3]]
    assert [row.trigger_index for row in recorder.evaluations] == [0, 1]


def test_a_policy_that_fires_when_a_trigger_by_hand_took_its_data_is_held_back() -> None:
    recorder = Recorder()
    loop = new_loop(Stubborn(every=10), recorder)
    loop.feed(arrivals(0, 0, 5))
    loop.fire("by hand")
    loop.feed(arrivals(2, 12, 13))
    assert recorder.keys == [[0, 1]]
    [_, held] = recorder.evaluations
    assert (held.trigger_index, held.evaluation.decision) == (None, False)
    assert held.evaluation.reason.startswith("held back: ")
    loop.feed(arrivals(4, 20))
    assert recorder.keys == [[0, 1], [2, 3]]


@given(times=samples, cuts=st.lists(st.integers(0, 80), max_size=6), hands=st.lists(st.booleans(), max_size=6))
def test_triggers_by_hand_lose_and_repeat_no_sample(times: list[int], cuts: list[int], hands: list[bool]) -> None:
    recorder = Recorder()
    loop = new_loop(TimeTrigger(every=7), recorder)
    edges = sorted({0, len(times), *(min(cut, len(times)) for cut in cuts)})
    for index, (a, b) in enumerate(itertools.pairwise(edges)):
        loop.feed(arrivals(a, *times[a:b]))
        if index < len(hands) and hands[index]:
            try:
                loop.fire("by hand")
            except ConflictError:
                assert recorder.keys[-1][-1] == b - 1
    handed = [key for keys in recorder.keys for key in keys]
    assert handed == list(range(len(handed)))
    assert all(recorder.keys)


def test_guards_hold_firings_back() -> None:
    recorder = Recorder()
    loop = new_loop(DataAmountTrigger(num_samples=2, guards=Guards(minimum_samples=3)), recorder)
    loop.feed(arrivals(0, *range(8)))
    assert recorder.keys == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [row.trigger_index for row in recorder.evaluations] == [None, 0, None, 1]


def test_a_schedule_is_looked_at_before_what_arrived_later() -> None:
    """As it is live, where the moment comes before the sample: votes of one moment are the same then."""
    ensemble = TRIGGERS.parse(
        {
            "id": "EnsembleTrigger",
            "ensemble_strategy": {"id": "Any"},
            "subtriggers": {
                "hourly": {"id": "ScheduleTrigger", "cron": "0 * * * *"},
                "time": {"id": "TimeTrigger", "every": "1h"},
            },
            "guards": {"cooldown": "90m"},
        }
    )
    times = [0, 1800, 3700, 3800, 7300, 9000, 10_900]
    live, replayed = Recorder(), Recorder()
    loop = new_loop(ensemble, live)
    for key, time in enumerate(times):
        due = loop.next_tick
        if due is not None and due <= time:
            loop.tick(due)
        loop.feed(arrivals(key, time))
    new_loop(ensemble, replayed).feed(arrivals(0, *times))
    assert [(row.timestamp, row.reason) for row in replayed.rows] == [(row.timestamp, row.reason) for row in live.rows]
    assert replayed.keys == live.keys
