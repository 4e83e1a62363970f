"""The report's composite scores against the definition, written down slowly and independently."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest

from modyn.core.catalog import Catalog
from modyn.core.plugins.evaluation import Window
from modyn.core.plugins.triggers import Evaluation, Finding
from modyn.core.report import FindingPart, IntervalPart, Report, without_volatile
from modyn.evaluator.uncertainty import mean_interval
from modyn.proto.evaluator_pb2 import MetricValue, WindowScores
from modyn.supervisor import journal as j
from modyn.supervisor.answers import Answers, Target
from modyn.supervisor.evaluation import Done
from modyn.supervisor.journal import EvaluationRow, Journal, PipelineRow, ScoreRow, TriggerRow, WindowRow
from modyn.supervisor.report import build_report
from modyn.supervisor.rows import ConfusionRow, FailureRow, MetricRow
from modyn.supervisor.score_tables import Scored

YAML = """
pipeline: {name: p}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 2, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 5}
evaluation:
  handlers: [{name: h, models: matrix, strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
"""

LATENCIES = {
    "zero": "",
    "measured": "  training_latency: measured\n",
    "modelled": "  training_latency: {seconds_per_training: 2, seconds_per_sample: 0.5}\n",
}


def random_journal(rng: random.Random, journal: Journal, latency: str = "zero") -> PipelineRow:
    """A pipeline with random triggers, some without a model, and random windows and scores, some missing."""
    yaml = YAML + LATENCIES[latency]
    row = journal.create_pipeline(
        PipelineRow(0, "p", "d", j.COMPLETED, False, yaml, "event", time.time(), [], ended_at=time.time())
    )
    clock = 0
    for index in range(rng.randrange(5)):
        clock += rng.randrange(0, 15)
        model = f"m{index}" if rng.random() < 0.8 else None
        journal.add_triggers(
            row.id,
            [
                TriggerRow(
                    index,
                    clock,
                    "r",
                    5,
                    first_timestamp=0,
                    last_timestamp=clock,
                    model=model,
                    samples_trained=rng.randrange(20),
                    select_seconds=rng.randrange(4),
                    start_seconds=1,
                    train_seconds=rng.randrange(8),
                    store_seconds=1,
                    training_seconds=rng.choice([None, rng.randrange(12)]),
                )
            ],
            cursor=None,
            trigger_state={},
        )
    windows = [Window(start, start + rng.randrange(1, 9), start + rng.randrange(0, 4)) for start in range(0, 50, 5)]
    rows = [WindowRow("h", "d", window, rng.choice([0, 4]), 0) for window in windows]
    scores = []
    for trigger in journal.triggers(row.id):
        for window in rows:
            if trigger.model is not None and window.samples and rng.random() < 0.9:
                subject = j.trigger_subject(trigger.trigger_index)
                value = rng.choice([None, rng.random(), rng.random()])
                scores.append(ScoreRow("h", "d", window.window, subject, "Accuracy", value))
    labelled = [window.window for window in rows if window.samples]
    scores += [ScoreRow("h", "d", window, "baseline:last_label", "Accuracy", rng.random()) for window in labelled]
    journal.add_scores(row.id, rows, scores)
    return row


def slow_live(triggers: list[TriggerRow], latency: str) -> dict[int, float]:
    """When each model could have been live: trainings follow each other."""
    live: dict[int, float] = {}
    free = -1e9
    for t in triggers:
        if t.model is not None:
            before = t.start_seconds + t.train_seconds + t.store_seconds
            training = before if t.training_seconds is None else t.training_seconds
            took = {"zero": 0.0, "measured": t.select_seconds + training, "modelled": 2 + 0.5 * t.samples_trained}
            free = max(free, t.timestamp) + took[latency]
            live[t.trigger_index] = free
    return live


def slow_active(
    triggers: list[TriggerRow], anchor: int, live: dict[int, float]
) -> tuple[TriggerRow | None, TriggerRow | None]:
    trained = [t for t in triggers if t.model is not None]
    active = None
    for t in trained:
        assert t.last_timestamp is not None
        if t.last_timestamp < anchor and live[t.trigger_index] <= anchor:
            active = t
    if not trained:
        return None, None
    if active is None:
        return None, trained[0]
    later = trained[trained.index(active) + 1 :]
    return active, later[0] if later else active


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("seed", range(12))
def test_composite_scores_follow_the_definition(catalog: Catalog, seed: int, latency: str) -> None:
    journal = Journal(catalog)
    row = random_journal(random.Random(seed), journal, latency)
    report = build_report(journal, row)
    triggers = journal.triggers(row.id)
    live = slow_live(triggers, latency)
    assert {t.index: t.live_from for t in report.triggers if t.live_from is not None} == pytest.approx(live)
    assert report.evaluation is not None
    assert report.evaluation.training_latency == latency
    values = {(s.window, s.subject): s.value for s in journal.scores(row.id)}
    active_scores, trained_scores, baseline, weights = [], [], [], []
    without_model = empty = undefined = 0
    for window in journal.windows(row.id):
        active, trained = slow_active(triggers, window.window.anchor, live)
        trained_value = values.get((window.window, f"trigger:{trained.trigger_index}")) if trained else None
        if window.samples and trained_value is not None:
            trained_scores.append(trained_value)
        if not window.samples:
            empty += 1
        elif active is None:
            without_model += 1
        elif (value := values.get((window.window, f"trigger:{active.trigger_index}"))) is None:
            undefined += 1
        else:
            active_scores.append(value)
            weights.append(window.window.end - window.window.start)
            baseline.append(values[window.window, "baseline:last_label"])
    if not values:
        assert report.composite["h"]["d"] == {}
        return
    score = report.composite["h"]["d"]["Accuracy"]

    def mean(numbers: list[float | None]) -> float | None:
        return sum(filter(None, numbers)) / len(numbers) if numbers else None

    assert score.currently_active == pytest.approx(mean(list(active_scores)))
    assert score.currently_trained == pytest.approx(mean(list(trained_scores)))
    weighted = sum(s * w for s, w in zip(active_scores, weights, strict=True)) / sum(weights) if weights else None
    assert score.currently_active_time_weighted == pytest.approx(weighted)
    assert score.baselines["last_label"] == pytest.approx(mean(baseline))
    assert (score.windows_scored, score.windows_empty) == (len(active_scores), empty)
    assert (score.windows_without_model, score.windows_undefined) == (without_model, undefined)


def test_a_report_says_why_the_trigger_fired_or_did_not(catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = random_journal(random.Random(3), journal)
    finding = Finding("mmd", 0.25, 0.5, 0.125, decision=False, note="blocks of 3")
    journal.add_evaluations(
        row.id,
        [
            EvaluationRow(0, None, Evaluation(10, 19, 7, False, "no drift", (finding, Finding("ks")), 0.5)),
            EvaluationRow(1, 0, Evaluation(20, 29, 8, True, "asked for by hand")),
        ],
    )
    quiet, fired = build_report(journal, row).trigger_evaluations
    assert (quiet.number, quiet.trigger, quiet.decision, quiet.reason, quiet.seconds) == (
        0,
        None,
        False,
        "no drift",
        0.5,
    )
    assert (quiet.first_timestamp, quiet.last_timestamp, quiet.num_samples) == (10, 19, 7)
    assert quiet.findings == [
        FindingPart(name="mmd", statistic=0.25, threshold=0.5, p_value=0.125, decision=False, note="blocks of 3"),
        FindingPart(name="ks", statistic=None, threshold=None, p_value=None, decision=False, note=""),
    ]
    assert (fired.number, fired.trigger, fired.decision, fired.findings) == (1, 0, True, [])
    kept = without_volatile(build_report(journal, row))["trigger_evaluations"]
    assert all("seconds" not in evaluation and "findings" in evaluation for evaluation in kept)


def test_a_simulated_pipeline_is_reported_as_such(catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = PipelineRow(0, "p", "d", j.COMPLETED, False, YAML, "event", 1.0, [], simulated=True, ended_at=2.0)
    row = journal.create_pipeline(row)
    trigger = TriggerRow(0, 9, "5 new samples", 5, samples=5, first_timestamp=0, last_timestamp=9)
    journal.add_triggers(row.id, [trigger], trigger_state={})
    report = build_report(journal, row)
    assert report.run.simulated
    assert [t.new_samples for t in report.triggers] == [5]
    assert (report.cost.trainings, report.evaluations, report.composite) == (0, [], {})


def test_intervals_transfer_and_differences_of_a_journal(catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = journal.create_pipeline(PipelineRow(0, "p", "d", j.COMPLETED, False, YAML, "event", 1.0, [], ended_at=2.0))
    ends = [9, 99, 199]
    triggers = [TriggerRow(i, end, "r", 5, last_timestamp=end, model=f"m{i}") for i, end in enumerate(ends)]
    journal.add_triggers(row.id, triggers, trigger_state={})
    rng = random.Random(1)
    windows = [WindowRow("h", "d", Window(i * 10, i * 10 + 10, i * 10), 4, 0, "certified", f"{i}") for i in range(30)]
    values = {
        (window.window, subject, metric): rng.random()
        for window in windows
        for subject in ("trigger:0", "trigger:1", "trigger:2", "baseline:majority_class")
        for metric in ("LogLoss", "LogLoss#1")
    }
    scores = [ScoreRow("h", "d", *place, value, value - 1, value + 1) for place, value in values.items()]
    counts = [(0, 0, 1), (0, 2, 3)]
    confusions = [ConfusionRow("h", "d", window.window, f"trigger:{i}", counts) for window in windows for i in range(3)]
    journal.add_scored(row.id, Scored(windows, scores, confusions))
    journal.add_metrics(row.id, [MetricRow("h", "d", "LogLoss", "digest", greater_is_better=False)])
    report = build_report(journal, row)
    active = {w.window: 0 if w.window.anchor < 100 else 1 if w.window.anchor < 200 else 2 for w in windows[1:]}
    of_active = np.array([values[window, f"trigger:{index}", "LogLoss"] for window, index in active.items()])
    baseline = np.array([values[window, "baseline:majority_class", "LogLoss"] for window in active])

    whole, of_class = (report.composite["h"]["d"][name] for name in ("LogLoss", "LogLoss#1"))
    assert (whole.greater_is_better, of_class.greater_is_better) == (False, False)
    expected = mean_interval(of_active, level=0.95)
    assert expected is not None
    assert whole.interval == IntervalPart(low=expected.low, high=expected.high, level=0.95)
    difference = whole.over_baselines["majority_class"]
    assert difference.mean == pytest.approx((of_active - baseline).mean())
    assert (difference.windows, difference.interval is not None) == (29, True)
    assert (of_class.over_baselines, of_class.interval is not None) == ({}, True)

    [transfer] = report.transfer
    learned = {w.window: 1 if w.window.end > 10 else 0 for w in windows if w.window.end - 1 <= 99}
    last = [values[window, "trigger:2", "LogLoss"] for window in learned]
    first = [values[window, f"trigger:{index}", "LogLoss"] for window, index in learned.items()]
    assert transfer.backward_transfer == pytest.approx(np.mean(first) - np.mean(last))  # smaller is better
    assert (transfer.metric, transfer.windows_backward, transfer.windows_forward) == ("LogLoss", 10, 29)
    assert transfer.forward_transfer == pytest.approx((baseline - of_active).mean())
    [confusion] = report.confusion
    assert (confusion.classes, confusion.counts, confusion.windows) == ([0, 2], [[29, 87], [0, 0]], 29)

    window = report.windows[5]
    assert (window.certification, window.data_digest) == ("certified", "5")
    value = of_active[4]
    assert window.scores["LogLoss"].interval == IntervalPart(low=value - 1, high=value + 1, level=0.95)
    assert report.evaluations[0].intervals.keys() == {"LogLoss", "LogLoss#1"}


def test_a_report_reads_back_and_its_volatile_part_can_be_left_out(catalog: Catalog, tmp_path: Path) -> None:
    journal = Journal(catalog)
    row = random_journal(random.Random(3), journal)
    report = build_report(journal, row)
    assert Report.model_validate_json(report.model_dump_json()) == report
    kept = without_volatile(report)
    assert "id" not in kept["pipeline"]
    assert kept["pipeline"]["name"] == "p"
    assert "train_seconds" not in kept["cost"]
    assert all("reused" not in trigger and trigger["seconds"] == {} for trigger in kept["triggers"])


def test_scores_of_a_trigger_that_is_not_journaled_yet_are_left_out(catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = journal.create_pipeline(PipelineRow(0, "p", "d", j.INTERRUPTED, False, YAML, "event", 1.0, [], ended_at=2.0))
    journal.add_triggers(row.id, [TriggerRow(0, 9, "r", 5, last_timestamp=9, model="m")], trigger_state={})
    window = Window(10, 20, 10)
    subjects = ("trigger:0", "trigger:1", "baseline:last_label")
    scores = [ScoreRow("h", "d", window, subject, "Accuracy", 0.5) for subject in subjects]
    journal.add_scores(row.id, [WindowRow("h", "d", window, 4, 0)], scores)
    report = build_report(journal, row)
    assert [score.trigger for score in report.evaluations] == [0]
    assert report.windows[0].scores["Accuracy"].baselines == {"last_label": 0.5}


def test_what_failed_is_not_done(catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = journal.create_pipeline(PipelineRow(0, "p", "d", j.COMPLETED, False, YAML, "event", 1.0, [], ended_at=2.0))
    windows = [Window(start, start + 10, start) for start in (0, 10, 20)]
    rows = [WindowRow("h", "d", window, 4, 0, baselines=True) for window in windows]
    scores = [ScoreRow("h", "d", window, f"trigger:{i}", "Accuracy", 0.5) for window in windows for i in range(3)]
    journal.add_scores(row.id, rows, scores)
    of_model = FailureRow("gone", handler="h", dataset="d", trigger_index=2)
    of_metric = FailureRow("no", handler="h", dataset="d", trigger_index=0, start=0, end=10, metric="Accuracy")
    of_baseline = FailureRow("no", handler="h", dataset="d", start=10, end=20, metric="Accuracy")
    elsewhere = FailureRow("no", handler="other", dataset="d")
    journal.add_failures(row.id, [of_model, of_metric, of_baseline, elsewhere, FailureRow("of an earlier release")])
    done = Done.of_journal(journal, row.id)
    assert done.pairs == {("h", "d", windows[0], 1), *(("h", "d", windows[2], index) for index in (0, 1))}
    assert done.baselines == {("h", "d", windows[0]), ("h", "d", windows[2])}


def test_windows_whose_data_changed_since_other_models_were_scored_are_found(catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = journal.create_pipeline(PipelineRow(0, "p", "d", j.COMPLETED, False, YAML, "event", 1.0, [], ended_at=2.0))
    windows = [Window(start, start + 10, start) for start in (0, 10, 20)]
    rows = [WindowRow("h", "d", window, 4, 0, data_digest="old") for window in windows]
    journal.add_scores(row.id, rows, [ScoreRow("h", "d", w, "trigger:0", "Accuracy", 0.5) for w in windows[:2]])
    digests = Done.of_journal(journal, row.id).digests
    assert digests == {("h", "d", window): "old" for window in windows[:2]}
    targets = [Target("h", window, frozenset({0, 1, 2})) for window in windows]
    answers = Answers(journal, row.id, "d", targets, {0: "m", 1: "n", 2: "n"}, digests=digests)
    for place, digest in enumerate(("old", "new", "new")):
        value = MetricValue(name="Accuracy", value=0.25)
        answers.scores(WindowScores(model="n", window=place, num_samples=4, data_digest=digest, metrics=[value]))
    answers.write()
    assert answers.outdated == {("h", windows[1])}
    scored = {(score.subject, score.value) for score in journal.scores(row.id) if score.window == windows[0]}
    assert scored == {("trigger:0", 0.5), ("trigger:1", 0.25), ("trigger:2", 0.25)}, "two triggers with one model"


class BusyJournal(Journal):
    """A journal to which a running pipeline adds a score whenever somebody reads."""

    def windows(self, pipeline_id: int) -> list[WindowRow]:
        rows = super().windows(pipeline_id)
        self._add(pipeline_id)
        return rows

    def scores(self, pipeline_id: int) -> list[ScoreRow]:
        rows = super().scores(pipeline_id)
        self._add(pipeline_id)
        return rows

    def _add(self, pipeline_id: int) -> None:
        start = 10 * len(super().windows(pipeline_id))
        window = Window(start, start + 10, start)
        score = ScoreRow("h", "d", window, j.trigger_subject(0), "Accuracy", 0.5)
        self.add_scores(pipeline_id, [WindowRow("h", "d", window, 4, 0)], [score])


def test_a_report_can_be_made_while_the_pipeline_runs(catalog: Catalog) -> None:
    journal = BusyJournal(catalog)
    row = journal.create_pipeline(PipelineRow(0, "p", "d", j.RUNNING, False, YAML, "event", time.time(), []))
    for _ in range(3):
        assert build_report(journal, row).pipeline.status == "running"
