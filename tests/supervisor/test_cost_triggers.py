"""The cost triggers on streams worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.plugins.triggers import TRIGGERS, Arrivals, TrainingOutcome
from modyn.supervisor.triggers.data_incorporation_cost import DataIncorporationLatencyCostTrigger
from modyn.supervisor.triggers.misclassification_cost import AvoidableMisclassificationCostTrigger
from tests.helpers.observing import ArrayObserver
from tests.helpers.retraining import drive, observer_of


def column(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def waiting(**keys: Any) -> DataIncorporationLatencyCostTrigger:
    return DataIncorporationLatencyCostTrigger.model_validate(
        {"incorporation_delay_per_training_second": 10, "evaluation_interval_data_points": 2, **keys}
    )


def mistakes(**keys: Any) -> AvoidableMisclassificationCostTrigger:
    return AvoidableMisclassificationCostTrigger.model_validate(
        {
            "avoidable_misclassification_latency_per_training_second": 5,
            "evaluation_interval_data_points": 10,
            "expected_accuracy": 0.9,
            **keys,
        }
    )


def fixed(seconds: float) -> dict[str, float]:
    return {"seconds_per_sample": 0, "fixed_seconds": seconds}


def nothing() -> ArrayObserver:
    return ArrayObserver(np.zeros((1, 1)))


def right(*numbers: int) -> ArrayObserver:
    """Intervals of ten samples of which so many are predicted right, the first ones."""
    predictions = np.concatenate([np.arange(10) < number for number in numbers]).astype(np.int64)
    return observer_of(np.ones(len(predictions), dtype=np.int64), predictions)


def worths(run: Any) -> list[float]:
    """Training seconds that each evaluation's regret was worth."""
    return [evaluation.findings[0].statistic for evaluation in run.evaluations]


def costs(run: Any) -> list[float | None]:
    return [evaluation.findings[0].threshold for evaluation in run.evaluations]


# data that wait

TIMES = column(0, 10, 20, 30, 35, 50, 60, 80, 90, 100)


def test_waiting_data_by_hand() -> None:
    run = drive(waiting(cost_model=fixed(12)), TIMES, nothing())
    # interval   R before, seconds   the own ones wait   C       C / 10
    # 0 10       -                   10 + 0              10      1; fires for want of a model
    # 20 30      0                   10 + 0              10      1
    # 35 50      2 · 20 = 40         15 + 0              65      6.5
    # 60 80      4 · 30 = 120        20 + 0              205     20.5; fires
    # 90 100     0                   10 + 0              10      1
    assert worths(run) == pytest.approx([1, 1, 6.5, 20.5, 1])
    assert run.fired == [2, 8]
    assert run.evaluations[3].reason == (
        "6 new samples wait, 205 seconds of them: worth 20.5 s of training, at least the forecast 12 s"
    )
    assert run.evaluations[4].reason == (
        "2 new samples wait, 10 seconds of them: worth 1 s of training, not the forecast 12 s"
    )
    assert (run.state.regret, run.state.area, run.state.unincorporated) == (2, 10, 2)


def test_fires_when_worth_equals_cost() -> None:
    assert drive(waiting(cost_model=fixed(20.5)), TIMES, nothing()).fired == [2, 8]
    assert drive(waiting(cost_model=fixed(20.6)), TIMES, nothing()).fired == [2, 10]


def test_a_late_sample_has_waited_since_its_event_time() -> None:
    run = drive(waiting(cost_model=fixed(1e9)), column(0, 100, 110, 30), nothing())
    assert worths(run) == pytest.approx([10.0, (0 + 80) / 10])  # on the clock 110


def test_costs_are_measured() -> None:
    def train(index: int, start: int, end: int) -> TrainingOutcome:
        return TrainingOutcome(index, f"model-{index}", end - start, [4.0, 10.0, 1.0][index])

    run = drive(waiting(), TIMES, nothing(), train=train)
    # before the first training nothing was measured; then 2 samples took 4 s, whatever the size;
    # 6.5 >= 4 fires on 4 samples, which take 10 s: slope (2 - 3)(4 - 7) + (4 - 3)(10 - 7) over 1 + 1 + penalty 1 = 2
    # at 2 samples 7 + 2 · (2 - 3) = 5; C = 20: 2 s; then at 4 samples 7 + 2 = 9; C = 20 + 2 · 20 + 10 = 70: 7 s
    assert costs(run) == [None, pytest.approx(4), pytest.approx(4), pytest.approx(5), pytest.approx(9)]
    assert worths(run) == pytest.approx([1, 1, 6.5, 2, 7])
    assert run.fired == [2, 6]
    assert run.evaluations[0].findings[0].note.endswith("no training was measured yet")


def test_a_training_set_with_older_data_is_expected_to_hold_them_again() -> None:
    trigger = waiting()
    state = trigger.initial_state().but(samples=(2, 12), seconds=(4.0, 24.0), unincorporated=2)
    # a line through (2, 4) and (12, 24), slope (5 · 10 + 5 · 10) / (25 + 25 + 1) around (7, 14)
    slope = 100 / 51
    # 12 of which 4 were new, 8 were older: 2 + 8 = 10
    assert trigger.training_seconds(state.but(last_new=4)) == pytest.approx(14 + slope * (10 - 7))
    # 12 of 24 new samples: half of the 2
    assert trigger.training_seconds(state.but(last_new=24)) == pytest.approx(14 + slope * (1 - 7))


def test_costs_of_the_last_trainings_only() -> None:
    run = drive(waiting(cost_tracking_window_size=2, incorporation_delay_per_training_second=1e-3), TIMES, nothing())
    assert run.fired == [2, 4, 6, 8, 10]
    assert len(run.state.samples) == len(run.state.seconds) == 2


def test_an_empty_training_set_measures_nothing_but_the_data_are_gone() -> None:
    trigger = waiting()
    state = trigger.next_firing(trigger.initial_state(), Arrivals(np.arange(2), TIMES[:2]), nothing()).state
    state = trigger.after_training(state, TrainingOutcome(0, None, 0, 0.0))
    assert (state.samples, state.regret, state.area, state.unincorporated) == ((), 0, 0, 0)


def test_a_cost_model_needs_no_trainings() -> None:
    assert waiting().needs_costs
    trigger = waiting(cost_model={"seconds_per_sample": 2, "fixed_seconds": 3})
    assert not trigger.needs_costs
    assert not trigger.needs_model
    assert costs(drive(trigger, TIMES[:6], nothing())) == [7, 7, 11]


def test_warm_up_counts_what_waits() -> None:
    warm = {"warmup_intervals": 2, "warmup_policy": {"id": "DataAmountTrigger", "num_samples": 100}}
    run = drive(waiting(cost_model=fixed(5), **warm), TIMES, nothing())
    # without a warm-up the third interval fires (6.5); the waiting of the warm-up counts in the fourth
    assert worths(run) == pytest.approx([1, 1, 6.5, 20.5, 1])
    assert run.fired == [2, 8]
    assert drive(waiting(cost_model=fixed(5)), TIMES, nothing()).fired[1] == 6


def test_nothing_that_waited_is_worth_nothing() -> None:
    assert drive(waiting(cost_model=fixed(0)), column(5, 5, 5, 5, 6, 6), nothing()).fired == [2, 6]


def test_a_training_of_an_enclosing_trigger_takes_what_was_shown() -> None:
    trigger = waiting(cost_model=fixed(1e9), evaluation_interval_data_points=4)
    state = drive(trigger, column(0, 1, 2, 3, 10, 20), nothing()).state
    state = trigger.after_training(state, TrainingOutcome(1, "other", 2, 1.0))
    step = trigger.next_firing(state, Arrivals(np.arange(6, 8), column(30, 50)), nothing())
    # the samples of 10 and 20 were trained on; those of 30 and 50 have waited 20 and 0
    assert (step.state.regret, step.state.area, step.state.unincorporated) == (2, 20, 2)
    assert step.state.last_new == 2
    state = trigger.next_firing(state, Arrivals(np.arange(6, 7), column(30)), nothing()).state
    assert trigger.after_training(state, TrainingOutcome(2, "third", 1, 1.0)).last_new == 1


# mistakes that go on


def test_avoidable_misclassifications_by_hand() -> None:
    run = drive(mistakes(cost_model=fixed(19)), np.arange(60), right(0, 10, 7, 8, 5, 10))
    # interval   wrong - .1 · 10   R before · 10 s   own · 10 s / 2   C     C / 5
    # 0          no model          -                 -                0     0
    # 1          0 (-1)            0                 0                0     0
    # 2          2                 0                 10               10    2
    # 3          1                 20                5                35    7
    # 4          4                 30                20               85    17
    # 5          0 (-1)            70                0                155   31; fires
    assert worths(run) == pytest.approx([0, 0, 2, 7, 17, 31])
    assert run.fired == [10, 60]
    assert run.evaluations[-1].reason == (
        "7 avoidable misclassifications, 155 seconds of them: worth 31 s of training, at least the forecast 19 s"
    )
    assert run.state.area == 0


def test_reductions_may_make_up() -> None:
    run = drive(mistakes(cost_model=fixed(1e9), allow_reduction=True), np.arange(50), right(0, 10, 7, 10, 10))
    # new -1, 2, -1, -1: C = -5; -5 - 10 + 10 = -5; -5 + 10 - 5 = 0; 0 + 0 - 5 = -5
    assert worths(run) == pytest.approx([0, -1, -1, 0, -1])


def test_regret_is_reset_by_every_training() -> None:
    run = drive(mistakes(cost_model=fixed(3)), np.arange(70), right(0, 5, 5, 9, 9, 5, 9))
    # 4 · 5 / 5 = 4 fires; again 4 fires; 0; 0; 4 fires; 0
    assert worths(run) == pytest.approx([0, 4, 4, 0, 0, 4, 0])
    assert run.fired == [10, 20, 30, 60]


def test_expected_accuracy_is_forecast_from_the_models_so_far() -> None:
    run = drive(mistakes(cost_model=fixed(1e9), expected_accuracy=None), np.arange(40), right(0, 8, 5, 8))
    # the model started with .8: nothing was avoidable; then 5 - 2 = 3, and 15 to C; then 30 more
    assert worths(run) == pytest.approx([0, 0, 3, 9])


def test_regret_goes_on_while_no_label_becomes_known() -> None:
    observer = right(0, 5, 5, 5)
    observer.label_times = np.where(np.arange(40) < 20, 0, 1_000)
    run = drive(mistakes(cost_model=fixed(1e9)), np.arange(40), observer)
    # 4 · 5 = 20, then 4 · 10 more each interval
    assert worths(run) == pytest.approx([0, 4, 12, 20])
    assert "no label became known" in run.evaluations[2].reason


def test_lookahead_counts_the_next_interval_once() -> None:
    keys = {"cost_model": fixed(1e9), "mode": "lookahead"}
    run = drive(mistakes(**keys), np.arange(30), right(0, 5, 5))
    # R = 4, C = 20; forecast: as many mistakes again, 4, and the next interval takes 10 s (one sample a second):
    # 4 · 10 + 4 · 10 / 2 = 60 ahead: 80 / 5 = 16. Then R = 8, C = 20 + 40 + 20 = 80; ahead 80 + 20: 180 / 5 = 36
    assert worths(run) == pytest.approx([0, 16, 36])
    assert run.state.area == pytest.approx(80)


def test_both_kinds_of_needs() -> None:
    assert mistakes().needs_model
    assert mistakes().needs_costs
    assert mistakes(cost_model=fixed(1)).needs_model
    assert not mistakes(cost_model=fixed(1)).needs_costs


@settings(max_examples=25)
@given(
    gaps=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    trigger=st.sampled_from(
        [
            waiting(cost_model=fixed(3)),
            waiting(evaluation_interval_data_points=None, evaluation_interval="7s"),
            mistakes(evaluation_interval_data_points=3, label_delay="4s"),
            mistakes(evaluation_interval_data_points=3, mode="lookahead", expected_accuracy=None),
        ]
    ),
)
def test_pieces_of_any_size_give_the_same(gaps: list[int], cuts: list[int], trigger: Any) -> None:
    times = np.cumsum(gaps)
    observer = observer_of(np.ones(len(times), dtype=np.int64), times % 2)
    whole = drive(trigger, times, observer)
    pieces = drive(trigger, times, observer, cuts=tuple(min(cut, len(times)) for cut in cuts))
    assert pieces.fired == whole.fired
    assert pieces.explained == whole.explained
    assert pieces.state.model_dump_json() == whole.state.model_dump_json()


@settings(max_examples=50)
@given(gaps=st.lists(st.integers(0, 9), min_size=1, max_size=60), size=st.integers(1, 7))
def test_the_area_is_the_sum_of_waiting_times(gaps: list[int], size: int) -> None:
    """C equals what a clerk would add up, who asks every sample at the end how long it has waited."""
    times = np.cumsum(gaps)
    trigger = waiting(evaluation_interval_data_points=size, cost_model=fixed(1e12))
    state = drive(trigger, times, nothing()).state
    complete = times[size : len(times) // size * size]  # the first interval was trained on
    assert state.area == sum(int(complete[-1] - time) for time in complete) if len(complete) else state.area == 0


@pytest.mark.parametrize("trigger", [waiting(), waiting(cost_model=fixed(1)), mistakes(label_delay="1d")])
def test_dumps_parse(trigger: Any) -> None:
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


def test_the_published_keys() -> None:
    published = {
        "id": "AvoidableMisclassificationCostTrigger",
        "evaluation_interval_data_points": 100,
        "warmup_intervals": 3,
        "warmup_policy": {"id": "TimeTrigger", "every": "1d"},
        "cost_tracking_window_size": 20,
        "data_density_window_size": 5,
        "performance_triggers_window_size": 5,
        "evaluation": {"device": "cpu", "dataset": {"dataset_id": "d", "metrics": [{"name": "Accuracy"}]}},
        "mode": "hindsight",
        "forecasting_method": "rolling_average",
        "expected_accuracy": None,
        "allow_reduction": True,
        "avoidable_misclassification_latency_per_training_second": 2.0,
    }
    assert TRIGGERS.parse(published).model_dump()["allow_reduction"] is True


@pytest.mark.parametrize(
    ("make", "keys", "message"),
    [
        (waiting, {"incorporation_delay_per_training_second": 0}, "greater than 0"),
        (waiting, {"incorporation_delay_per_training_second": float("inf")}, "finite"),
        (waiting, {"cost_tracking_window_size": 0}, "greater than 0"),
        (waiting, {"cost_model": {"fixed_seconds": 1}}, "seconds_per_sample"),
        (waiting, {"cost_model": {"seconds_per_sample": -1}}, "greater than or equal to 0"),
        (mistakes, {"avoidable_misclassification_latency_per_training_second": -1}, "greater than 0"),
        (mistakes, {"expected_accuracy": 1.1}, "less than or equal to 1"),
    ],
)
def test_bad_input_is_named(make: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**keys)
