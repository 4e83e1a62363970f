"""The arithmetic of "does it pay?", with journal rows written by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest

from modyn.core.catalog import Catalog
from modyn.core.plugins.evaluation import Window
from modyn.core.report import BaselineKind, DownsamplingPart, Report, without_volatile
from modyn.supervisor import journal as j
from modyn.supervisor.journal import Journal, PipelineRow, ScoreRow, TriggerRow, WindowRow
from modyn.supervisor.report import build_report
from modyn.supervisor.rows import MetricRow

YAML = """
pipeline: {name: p}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 2, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 5}
evaluation:
  handlers: [{name: h, strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
"""

SCORED = TriggerRow(
    0,
    timestamp=9,
    reason="r",
    new_samples=100,
    samples=100,
    last_timestamp=9,
    model="m",
    samples_trained=200,
    train_seconds=9.0,
    select_seconds=0.5,
    store_seconds=0.25,
    downsampling="Loss",
    trained="digest",
    samples_offered=400,
    samples_scored=300,
    scores_reused=100,
    auxiliary_samples=50,
    score_seconds=2.0,
    choose_seconds=0.5,
    auxiliary_seconds=1.5,
)
"""200 passes in 9 − 4 = 5 s: the other 200 would have taken 5 s too, and 4 s were spent on leaving them out."""

PLAIN = TriggerRow(
    1,
    timestamp=19,
    reason="r",
    new_samples=5,
    samples=5,
    last_timestamp=19,
    model="n",
    samples_trained=10,
    train_seconds=1.0,
    select_seconds=0.5,
)


def pipeline(
    journal: Journal,
    *triggers: TriggerRow,
    baseline: BaselineKind | None = None,
    of: int | None = None,
    status: str = j.COMPLETED,
    scores: dict[str, float | None] | None = None,
    error: str | None = None,
) -> PipelineRow:
    """A pipeline with these triggers; its only window is scored with the model of the first."""
    row = PipelineRow(0, "p", "d", status, False, YAML, "event", 0.0, [], ended_at=9.0, error=error)
    row = journal.create_pipeline(replace(row, baseline=baseline, baseline_of=of))
    if triggers:
        journal.add_triggers(row.id, triggers, trigger_state={})
    window = WindowRow("h", "d", Window(10, 20, 10), 5, 0)
    values = [ScoreRow("h", "d", window.window, "trigger:0", metric, value) for metric, value in (scores or {}).items()]
    if values:
        journal.add_scores(row.id, [window], values)
    return row


def section(journal: Journal, row: PipelineRow) -> DownsamplingPart:
    part = build_report(journal, row).downsampling
    assert part is not None
    return part


def test_what_was_saved_and_what_it_took(catalog: Catalog) -> None:
    journal = Journal(catalog)
    report = build_report(journal, pipeline(journal, SCORED, PLAIN))
    part = report.downsampling
    assert part is not None
    assert (part.strategies, part.triggers) == (["Loss"], 1)
    assert (part.samples_offered, part.samples_trained, part.samples_scored) == (400, 200, 300)
    assert (part.scores_reused, part.auxiliary_samples) == (100, 50)
    assert (part.train_seconds, part.score_seconds, part.choose_seconds, part.auxiliary_seconds) == (9, 2, 0.5, 1.5)
    assert part.seconds_saved == pytest.approx(5.0)
    assert part.seconds_net == pytest.approx(1.0)
    assert part.total_seconds == pytest.approx(9 + 0.5 + 0.25 + 1 + 0.5), "of all triggers"
    assert part.verdict.startswith("It saved an estimated 1.00 s: 5.00 s of training for 4.00 s of its own.")
    assert "--baselines" in part.verdict
    assert part.baselines == []
    assert report.cost.train_seconds == 10.0, "scoring included"
    scored, plain = report.triggers
    assert plain.downsampling is None
    assert scored.downsampling is not None
    assert (scored.downsampling.strategy, scored.downsampling.trained) == ("Loss", "digest")
    assert scored.downsampling.seconds.model_dump() == {"score": 2.0, "choose": 0.5, "auxiliary": 1.5}


def test_scoring_that_takes_more_than_it_saves_is_called_that(catalog: Catalog) -> None:
    journal = Journal(catalog)
    part = section(journal, pipeline(journal, replace(SCORED, score_seconds=6.0)))  # 1 s of training left
    assert [part.seconds_saved, part.seconds_net] == pytest.approx([1.0, -7.0])
    assert "It saved no time" in part.verdict
    assert "7.00 s more than training on everything" in part.verdict


@pytest.mark.parametrize("seed", range(10))
def test_the_estimate_follows_its_definition_trigger_by_trigger(catalog: Catalog, seed: int) -> None:
    rng = random.Random(seed)
    journal = Journal(catalog)
    rows, saved, spent = [], Fraction(0), Fraction(0)
    for index in range(rng.randrange(1, 6)):
        score, choose, auxiliary, training = (Fraction(rng.randrange(100), 8) for _ in range(4))
        trained = rng.choice([0, rng.randrange(1, 1000)])
        offered = trained + rng.randrange(1000)
        row = replace(
            SCORED,
            trigger_index=index,
            samples_trained=trained,
            samples_offered=offered,
            score_seconds=float(score),
            choose_seconds=float(choose),
            auxiliary_seconds=float(auxiliary),
            train_seconds=float(score + choose + auxiliary + training),
        )
        rows.append(row)
        saved += (offered - trained) * training / trained if trained else 0
        spent += score + choose + auxiliary
    part = section(journal, pipeline(journal, *rows))
    assert part.seconds_saved == pytest.approx(float(saved))
    assert part.seconds_net == pytest.approx(float(saved - spent))


def test_without_a_downsampler_there_is_no_section(catalog: Catalog) -> None:
    journal = Journal(catalog)
    assert build_report(journal, pipeline(journal, PLAIN)).downsampling is None
    assert build_report(journal, pipeline(journal)).downsampling is None


def test_baselines_stand_beside_it_the_last_of_each_kind(catalog: Catalog) -> None:
    journal = Journal(catalog)
    main = pipeline(journal, SCORED, scores={"Accuracy": 0.75})
    trained = replace(PLAIN, trigger_index=0, last_timestamp=9, samples_trained=200, reused=True, store_seconds=0.125)
    pipeline(journal, baseline="uniform", of=main.id, status=j.INTERRUPTED)
    late = pipeline(journal, trained, baseline="fewer_epochs", of=main.id, scores={"Accuracy": 0.5})
    early = pipeline(journal, trained, baseline="uniform", of=main.id, scores={"Accuracy": 0.625})
    other = pipeline(journal, SCORED)
    uniform, fewer = section(journal, main).baselines
    assert (uniform.kind, uniform.id, uniform.status) == ("uniform", str(early.id), "completed")
    assert (fewer.kind, fewer.id) == ("fewer_epochs", str(late.id))
    assert (uniform.trainings, uniform.trainings_reused, uniform.samples_trained) == (1, 1, 200)
    assert (uniform.train_seconds, uniform.total_seconds) == (1.0, 1.625), "reused: with the original cost"
    assert uniform.composite == {"h": {"d": {"Accuracy": 0.625}}}
    assert (
        "With as many passes it scores 0.7500 and the best baseline (a uniform sample) 0.6250: better. "
        "Besides those passes it scored 300 samples and trained models for comparison on 50, which baselines do not."
    ) in section(journal, main).verdict
    assert section(journal, other).baselines == []
    assert build_report(journal, late).pipeline.baseline_of == str(main.id)
    assert build_report(journal, late).pipeline.baseline == "fewer_epochs"


@pytest.mark.parametrize(
    ("own", "baseline", "says"),
    [
        ({"Accuracy": 0.5}, {"Accuracy": 0.5625}, "it scores 0.5000 and a uniform sample 0.5625: worse."),
        ({"Accuracy": 0.5}, {"Accuracy": 0.504}, "no difference."),
        (
            {"Accuracy": 0.5, "F1Score": 0.5, "RocAuc": 0.5},
            {"Accuracy": 0.25, "F1Score": 0.75, "RocAuc": 0.5},
            "better than every baseline in 1 of 3 scores, worse than one in 1.",
        ),
        ({"LogLoss": 0.5, "LogLoss#1": 0.5}, {"LogLoss": 0.25, "LogLoss#1": 0.75}, "a uniform sample 0.2500: worse."),
        ({"Accuracy": 0.5}, {"Accuracy": None}, "No score can be compared with a baseline."),
        ({}, {}, "No score can be compared with a baseline."),
    ],
)
def test_verdicts_on_scores(
    catalog: Catalog, own: dict[str, float | None], baseline: dict[str, float | None], says: str
) -> None:
    journal = Journal(catalog)
    main = pipeline(journal, SCORED, scores=own)
    journal.add_metrics(main.id, [MetricRow("h", "d", "LogLoss", "digest", greater_is_better=False)])
    pipeline(
        journal, replace(PLAIN, last_timestamp=9, trigger_index=0), baseline="uniform", of=main.id, scores=baseline
    )
    assert says in section(journal, main).verdict


@pytest.mark.parametrize("status", [j.FAILED, j.STOPPED, j.RUNNING])
def test_a_baseline_that_did_not_complete_is_shown_but_not_judged_by(catalog: Catalog, status: str) -> None:
    journal = Journal(catalog)
    main = pipeline(journal, SCORED, scores={"Accuracy": 0.5})
    pipeline(journal, baseline="uniform", of=main.id, status=status, error="boom")
    part = section(journal, main)
    assert [(b.status, b.error, b.trainings, b.composite) for b in part.baselines] == [(status, "boom", 0, {})]
    assert "--baselines" in part.verdict


def test_clocks_and_ids_can_be_left_out_and_earlier_reports_still_read(catalog: Catalog) -> None:
    journal = Journal(catalog)
    main = pipeline(journal, SCORED)
    pipeline(journal, PLAIN, baseline="uniform", of=main.id)
    report = build_report(journal, main)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.schema_version == 4
    kept = without_volatile(report)
    assert kept["triggers"][0]["downsampling"]["seconds"] == {}
    assert not {"seconds_saved", "seconds_net", "train_seconds", "verdict"} & kept["downsampling"].keys()
    assert not {"id", "total_seconds", "trainings_reused"} & kept["downsampling"]["baselines"][0].keys()
    earlier = report.model_dump(mode="json")
    earlier["schema_version"] = 2
    del earlier["downsampling"], earlier["pipeline"]["baseline"], earlier["pipeline"]["baseline_of"]
    for trigger in earlier["triggers"]:
        del trigger["downsampling"]
    again = Report.model_validate(earlier)
    assert (again.schema_version, again.downsampling, again.triggers[0].downsampling) == (2, None, None)
