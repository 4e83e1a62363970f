"""The performance trigger: what it accepts, what it scores, when it fires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.plugins.triggers import Arrivals, TrainingOutcome
from modyn.supervisor.guards import guarded
from modyn.supervisor.triggers.performance import PerformanceTrigger
from tests.helpers.observing import ArrayObserver
from tests.helpers.retraining import Retrained, drive, observer_of

SEA = Path("../shared/data/sea.parquet")
CHANGES = (12_500, 25_000, 37_500)

LOW = {"low": {"id": "StaticPerformanceThresholdCriterion", "metric": "Accuracy", "metric_threshold": 0.5}}
WARM = {"warmup_intervals": 2, "warmup_policy": {"id": "DataAmountTrigger", "num_samples": 1_000}}


def make(**keys: Any) -> PerformanceTrigger:
    return PerformanceTrigger.model_validate({"evaluation_interval_data_points": 4, "decision_criteria": LOW, **keys})


def stream(*right: int) -> tuple[npt.NDArray[np.int64], ArrayObserver]:
    """Intervals of four samples, one a second, of which so many are predicted right, the first ones."""
    labels = np.ones(4 * len(right), dtype=np.int64)
    predictions = np.concatenate([np.arange(4) < number for number in right]).astype(np.int64)
    return np.arange(len(labels)), observer_of(labels, predictions)


def accuracies(run: Any, name: str = "low") -> list[float | None]:
    """What a criterion looked at in each evaluation."""
    return [
        finding.statistic for evaluation in run.evaluations for finding in evaluation.findings if finding.name == name
    ]


def test_fires_when_a_criterion_does() -> None:
    times, observer = stream(0, 4, 3, 2, 1, 4)
    run = drive(make(), times, observer)
    assert run.fired == [4, 16, 20]  # no model; 2 of 4 right; 1 of 4 right
    assert accuracies(run) == [None, 1.0, 0.75, 0.5, 0.25, 1.0]
    assert [evaluation.reason for evaluation in run.evaluations[:4]] == [
        "there is no model yet",
        "performance holds: low 1 (threshold 0.5)",
        "performance holds: low 0.75 (threshold 0.5)",
        "performance: low 0.5 (threshold 0.5)",
    ]
    assert run.evaluations[3].findings[0].decision
    assert run.evaluations[0].findings[0].note == "there is no model yet"


def test_samples_before_the_first_model_are_never_scored() -> None:
    times, observer = stream(4, 4, 4)
    drive(make(), times, observer)
    shown = sum(observer.predicted.values())
    assert np.asarray(shown).tolist() == [0] * 4 + [1] * 8


def test_one_criterion_of_several_is_enough_and_all_are_told() -> None:
    times, observer = stream(4, 3, 2, 2)
    criteria = {**LOW, "lower": {**LOW["low"], "metric_threshold": 0.1}}
    run = drive(make(decision_criteria=criteria), times, observer)
    assert run.fired == [4, 12, 16]
    assert accuracies(run, "lower") == accuracies(run)
    assert run.evaluations[2].reason == "performance: low 0.5 (threshold 0.5)"


def test_a_simulated_delay_scores_with_the_model_of_the_time() -> None:
    # one sample a second, labels 4 s late: at the end of an interval those of the one before are known
    times, observer = stream(4, 1, 4, 4, 4)
    run = drive(make(label_delay="4s"), times, observer)
    assert run.fired == [4, 12]  # the misses of interval 1 become known at the end of interval 2
    assert accuracies(run) == [None, None, 0.25, None, 1.0]
    assert run.evaluations[1].reason == "no decision: no label became known"
    assert "earlier models" in run.evaluations[3].reason  # interval 2 was predicted by the model that was replaced
    assert observer.predicted["model-0"].tolist() == [0] * 4 + [1] * 4 + [0] * 12
    assert observer.predicted["model-1"].tolist() == [0] * 12 + [1] * 4 + [0] * 4


def test_late_labels_are_scored_once() -> None:
    labels = np.ones(16, dtype=np.int64)
    known = np.arange(16) + np.where(np.arange(16) % 2, 0, 5)
    observer = observer_of(labels, labels, label_times=known)
    run = drive(make(), np.arange(16), observer)
    assert np.asarray(sum(observer.predicted.values())).max() == 1
    assert run.state.pending.keys.tolist() == [12, 14]


def test_samples_whose_label_never_comes_are_forgotten() -> None:
    labels = np.ones(16, dtype=np.int64)
    observer = observer_of(labels, labels, label_times=np.full(16, 1_000))
    assert drive(make(), np.arange(16), observer).state.pending.keys.tolist() == list(range(4, 16))
    run = drive(make(label_timeout="5s"), np.arange(16), observer)
    assert run.state.pending.keys.tolist() == list(range(10, 16))


def test_deleted_samples_are_forgotten() -> None:
    labels = np.ones(12, dtype=np.int64)
    observer = observer_of(labels, labels, label_times=np.full(12, 1_000), gone={5, 9})
    assert drive(make(), np.arange(12), observer).state.pending.keys.tolist() == [4, 6, 7, 8, 10, 11]


def test_warm_up_feeds_the_criteria() -> None:
    times, observer = stream(4, 4, 3, 2, 4)
    criterion = {"id": "DynamicQuantilePerformanceThresholdCriterion", "metric": "Accuracy", "quantile": 0.5}
    run = drive(make(decision_criteria={"low": criterion}, **WARM), times, observer)
    # W: 1 and .75 from the warm-up; .5 is below their median .875
    assert run.fired == [4, 16]
    finding = run.evaluations[3].findings[0]
    assert (finding.statistic, finding.threshold) == (0.5, 0.875)


def test_an_undefined_metric_decides_nothing() -> None:
    times, observer = stream(4, 4, 4)
    criterion = {"id": "StaticPerformanceThresholdCriterion", "metric": "F1-binary-0", "metric_threshold": 0.9}
    f1 = {"name": "F1Score", "num_classes": 2, "average": "binary", "pos_label": 0}
    run = drive(make(metrics=[f1], decision_criteria={"low": criterion}), times, observer)
    assert run.fired == [4]
    assert run.evaluations[2].findings[0].note == "F1-binary-0 is undefined on these samples"


def test_metrics_on_scores() -> None:
    labels = np.tile([0, 1], 6)
    observer = ArrayObserver(labels[:, None], labels, predict=lambda _, rows: np.column_stack((rows, 1 - rows)))
    criterion = {"id": "StaticPerformanceThresholdCriterion", "metric": "RocAuc", "metric_threshold": 0.1}
    run = drive(make(metrics=[{"name": "RocAuc"}], decision_criteria={"low": criterion}), np.arange(12), observer)
    assert accuracies(run) == [None, 0.0, 0.0]
    assert run.fired == [4, 8, 12]


def test_lookahead_fires_before_the_threshold_is_reached() -> None:
    # 1, .95, .9, .85, .8 of 20: Σ(x - 2)(y - .9) = -.5, slope -.5 / 10.5; next .9 - 3 · .5 / 10.5 = .757
    right = [20, 20, 19, 18, 17, 16]
    labels = np.ones(120, dtype=np.int64)
    observer = observer_of(labels, np.concatenate([np.arange(20) < number for number in right]).astype(np.int64))
    criteria = {"low": {**LOW["low"], "metric_threshold": 0.76}}
    keys = {"evaluation_interval_data_points": 20, "decision_criteria": criteria}
    assert drive(make(**keys), np.arange(120), observer).fired == [20]
    run = drive(make(mode="lookahead", **keys), np.arange(120), observer)
    assert run.fired == [20, 120]
    assert (
        run.evaluations[-1].reason == "performance: low 0.8 (threshold 0.76), forecast of the next evaluation: 0.7571"
    )


def test_expected_accuracy_is_that_of_each_model_when_new() -> None:
    # models start with 4, 3 and 2 of 4 right: their mean so far is expected of the next
    times, observer = stream(0, 4, 0, 3, 0, 2)
    criteria = {"low": {"id": "StaticNumberMisclassificationCriterion", "avoidable_misclassification_threshold": 3}}
    run = drive(make(decision_criteria=criteria), times, observer)
    # 0; 4 - 0 = 4; fires; 1 - .125 · 4 = .5 -> 0; 4 - .5 = 3.5 -> 4; fires; 2 - .25 · 4 = 1
    assert run.fired == [4, 12, 20]
    assert accuracies(run) == [None, 0, 4, 0, 4, 1]
    assert run.state.first_accuracies == (1.0, 0.75, 0.5)


def test_a_training_of_an_enclosing_trigger_splits_the_interval() -> None:
    times, observer = stream(4, 4, 4)
    trigger = make()
    state = drive(trigger, times[:10], observer).state  # two samples of the third interval
    state = trigger.after_training(state, TrainingOutcome(1, "other", 2, 1.0))
    step = trigger.next_firing(state, Arrivals(np.arange(12), times).from_position(10), observer)
    assert step.evaluations[0].num_samples == 4
    assert observer.predicted["model-0"].tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert observer.predicted["other"].tolist() == [0] * 10 + [1] * 2


def test_two_such_trainings_in_one_interval() -> None:
    times, observer = stream(4, 4, 4)
    trigger, arrivals = make(), Arrivals(np.arange(12), times)
    state = drive(trigger, times[:9], observer).state
    state = trigger.after_training(state, TrainingOutcome(1, "other", 1, 1.0))
    state = trigger.next_firing(state, arrivals.slice(9, 11), observer).state
    state = trigger.after_training(state, TrainingOutcome(2, "third", 2, 1.0))
    trigger.next_firing(state, arrivals.slice(11, 12), observer)
    assert [counts.nonzero()[0].tolist() for counts in observer.predicted.values()] == [[4, 5, 6, 7], [9, 10], [11]]


@settings(max_examples=25)
@given(
    right=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 48), max_size=6),
    late=st.integers(0, 9),
    keys=st.sampled_from(
        [
            {"decision_criteria": {"low": {"id": "ADWIN", "clock": 2, "delta": 0.9, "min_window_length": 1}}},
            {"decision_criteria": {"low": {"id": "DDM", "warm_start": 2}, **LOW}, "label_delay": "3s"},
            {"label_timeout": "6s", "mode": "lookahead"},
            {"evaluation_interval_data_points": None, "evaluation_interval": "3s", "mode": "lookahead"},
        ]
    ),
)
def test_pieces_of_any_size_give_the_same(right: list[int], cuts: list[int], late: int, keys: dict[str, Any]) -> None:
    times, _ = stream(*right)
    labels = np.ones(len(times), dtype=np.int64)
    predictions = np.concatenate([np.arange(4) < number for number in right]).astype(np.int64)
    known = times + (times * 7 + late) % 10

    def run(*edges: int) -> Any:
        return drive(make(**keys), times, observer_of(labels, predictions, label_times=known), cuts=edges)

    whole, pieces = run(), run(*(min(cut, len(times)) for cut in cuts))
    assert pieces.fired == whole.fired
    assert pieces.explained == whole.explained
    assert pieces.state.model_dump_json() == whole.state.model_dump_json()


def test_only_a_new_model_is_a_reason_to_start_afresh() -> None:
    times, observer = stream(4, 3, 3)
    trigger = make(decision_criteria={"adwin": {"id": "ADWIN"}})
    state = drive(trigger, times, observer).state
    assert state.criteria["adwin"]["rows"]
    empty = trigger.after_training(state, TrainingOutcome(1, None, 0, 0.0))
    assert (empty.criteria, empty.accuracies) == (state.criteria, (0.75, 0.75))
    trained = trigger.after_training(state, TrainingOutcome(1, "next", 4, 1.0))
    assert (trained.criteria["adwin"]["rows"], trained.accuracies) == ([], ())


def test_the_state_stays_small() -> None:
    labels = np.ones(200_000, dtype=np.int64)
    observer = observer_of(labels, labels)
    trigger = PerformanceTrigger.model_validate({"label_delay": "5000s", "decision_criteria": LOW})
    state = drive(trigger, np.arange(200_000), observer).state
    assert len(state.pending.keys) == 5_000
    assert len(state.model_dump_json()) < 5_000


# known changes


@pytest.mark.skipif(not SEA.exists(), reason="../shared/data is not there")
@pytest.mark.parametrize("memory", [500, 1_000, 2_000])
@pytest.mark.parametrize("late", [{}, {"label_delay": "1000s"}])
def test_defaults_find_the_changes_of_sea(memory: int, late: dict[str, str]) -> None:
    table = pq.read_table(SEA)
    features = np.column_stack([table[name].to_numpy() for name in ("f0", "f1", "f2")]).astype(np.float32)
    retrained = Retrained(features, table["label"].to_numpy().astype(np.int64), memory=memory)
    trigger = PerformanceTrigger.model_validate(late)
    fired = retrained.run(trigger, table["timestamp"].to_numpy().astype(np.int64)).fired
    assert fired[0] == 1_000  # the first model
    found = [[at for at in fired[1:] if change < at <= change + 3_000] for change in CHANGES]
    assert all(found), fired
    assert len(fired) - 1 - len(CHANGES) <= 1, fired


@pytest.mark.parametrize("detector", ["ADWIN", "DDM", "PageHinkley"])
def test_a_detection_that_a_guard_holds_back_is_not_lost(detector: str) -> None:
    """Errors jump from 10 to 60 % at 3,000; nothing may fire before 8,000. Detectors are used to it by then."""
    count = 12_000
    wrong = np.arange(count) % 10 < np.where(np.arange(count) < 3_000, 1, 6)
    labels = np.ones(count, dtype=np.int64)
    criterion = {"id": detector, **({"threshold": 5.0} if detector == "PageHinkley" else {})}
    trigger = make(
        evaluation_interval_data_points=100, decision_criteria={"change": criterion}, guards={"cooldown": "8000s"}
    )
    run = drive(guarded(trigger), np.arange(count), observer_of(labels, (~wrong).astype(np.int64)))
    assert run.fired[0] == 100
    assert 8_100 <= run.fired[1] <= 8_300


def test_a_few_first_labels_do_not_say_what_to_expect() -> None:
    """The first label of a prediction that becomes known is of a mistake; the model is right 9 of 10 times, then 2."""
    count = 4_000
    wrong = np.arange(count) % 10 < np.where(np.arange(count) < 2_000, 1, 8)
    labels = np.ones(count, dtype=np.int64)
    criteria = {"low": {"id": "StaticNumberMisclassificationCriterion", "avoidable_misclassification_threshold": 50}}
    trigger = make(evaluation_interval_data_points=100, label_delay="99s", decision_criteria=criteria)
    run = drive(trigger, np.arange(count), observer_of(labels, (~wrong).astype(np.int64)))
    assert run.fired[0] == 100
    assert any(2_000 < fired <= 2_400 for fired in run.fired)
    assert run.state.first_accuracies[0] > 0.8
