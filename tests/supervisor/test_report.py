"""The report's composite scores against the definition, written down slowly and independently."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from modyn.core.catalog import Catalog
from modyn.core.plugins.evaluation import Window
from modyn.core.report import Report, without_volatile
from modyn.supervisor import journal as j
from modyn.supervisor.journal import Journal, PipelineRow, ScoreRow, TriggerRow, WindowRow
from modyn.supervisor.report import build_report

YAML = """
pipeline: {name: p}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 2, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 5}
evaluation:
  handlers: [{name: h, models: matrix, strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
"""


def random_journal(rng: random.Random, journal: Journal) -> PipelineRow:
    """A pipeline with random triggers, some without a model, and random windows and scores, some missing."""
    row = journal.create_pipeline(
        PipelineRow(0, "p", "d", j.COMPLETED, False, YAML, "event", time.time(), [], ended_at=time.time())
    )
    clock = 0
    for index in range(rng.randrange(5)):
        clock += rng.randrange(0, 15)
        model = f"m{index}" if rng.random() < 0.8 else None
        journal.add_trigger(
            row.id,
            TriggerRow(index, clock, "r", 5, first_timestamp=0, last_timestamp=clock, model=model),
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


def slow_active(triggers: list[TriggerRow], anchor: int) -> tuple[TriggerRow | None, TriggerRow | None]:
    trained = [t for t in triggers if t.model is not None]
    active = None
    for t in trained:
        assert t.last_timestamp is not None
        if t.last_timestamp < anchor:
            active = t
    if not trained:
        return None, None
    if active is None:
        return None, trained[0]
    later = trained[trained.index(active) + 1 :]
    return active, later[0] if later else active


@pytest.mark.parametrize("seed", range(25))
def test_composite_scores_follow_the_definition(catalog: Catalog, seed: int) -> None:
    journal = Journal(catalog)
    row = random_journal(random.Random(seed), journal)
    report = build_report(journal, row)
    triggers = journal.triggers(row.id)
    values = {(s.window, s.subject): s.value for s in journal.scores(row.id)}
    active_scores, trained_scores, baseline, weights = [], [], [], []
    without_model = empty = undefined = 0
    for window in journal.windows(row.id):
        active, trained = slow_active(triggers, window.window.anchor)
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
