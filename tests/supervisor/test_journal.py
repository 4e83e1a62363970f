from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from modyn.core.catalog import Catalog
from modyn.core.errors import NotFoundError
from modyn.core.plugins.evaluation import Window
from modyn.core.plugins.triggers import Evaluation, Finding
from modyn.core.report import BaselineKind
from modyn.supervisor import journal as j
from modyn.supervisor.failures import failure_messages
from modyn.supervisor.journal import EvaluationRow, Journal, PipelineRow, ScoreRow, TriggerRow, WindowRow
from modyn.supervisor.report import build_report
from modyn.supervisor.rows import ConfusionRow, EvaluationCost, FailureRow, HandlerRow, MetricRow, OffsetRow
from modyn.supervisor.score_tables import Scored
from modyn.supervisor.tables import METADATA

YAML = "pipeline: {name: p}\n"
DAY = Window(0, 86_400, 0)


def new_pipeline(journal: Journal, status: str = j.RUNNING) -> PipelineRow:
    return journal.create_pipeline(
        PipelineRow(
            id=0,
            name="p",
            dataset="d",
            status=status,
            live=False,
            resolved_yaml=YAML,
            replay_order="event",
            created_at=time.time(),
            notices=["careful"],
            stop_time=2**40,
        )
    )


def test_a_pipeline_reads_back_as_written(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row = new_pipeline(journal)
    assert journal.pipeline(row.id) == row
    journal.update_pipeline(row.id, samples_seen=7, trigger_state={"pending": 3}, status=j.COMPLETED)
    again = journal.pipeline(row.id)
    assert (again.samples_seen, again.trigger_state, again.status) == (7, {"pending": 3}, j.COMPLETED)


def test_ids_are_never_given_twice(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    assert new_pipeline(journal).id < new_pipeline(journal).id


def test_an_unknown_pipeline_is_named(any_catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="42"):
        Journal(any_catalog).pipeline(42)


def test_a_new_server_marks_what_the_old_one_left(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    unfinished = [new_pipeline(journal, status).id for status in j.UNFINISHED]
    ended = new_pipeline(journal, j.COMPLETED).id
    Journal(any_catalog).interrupt_unfinished()
    assert {journal.pipeline(i).status for i in unfinished} == {j.INTERRUPTED}
    assert journal.pipeline(ended).status == j.COMPLETED


def test_a_trigger_moves_the_cursor_with_it(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row = new_pipeline(journal)
    trigger = TriggerRow(
        0,
        timestamp=9,
        reason="r",
        new_samples=5,
        model="m",
        final_loss=0.1,
        last_timestamp=2**40,
        downsampling="Loss",
        trained="t",
        samples_offered=2**40,
        score_seconds=0.5,
    )
    journal.add_triggers(row.id, [trigger], cursor=5, trigger_state={"pending": 0})
    assert journal.triggers(row.id) == [trigger]
    assert journal.trigger_counts() == {row.id: 1}
    assert journal.pipeline(row.id).cursor == 5


def evaluation(number: int, trigger: int | None, *findings: Finding) -> EvaluationRow:
    fired = trigger is not None
    reason = "over the threshold" if fired else "no drift"
    return EvaluationRow(number, trigger, Evaluation(2**40, 2**41, 7, fired, reason, findings, seconds=0.25))


def test_evaluations_read_back_as_written_with_their_trigger_or_without_any(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row, other = new_pipeline(journal), new_pipeline(journal)
    quiet = [
        evaluation(0, None),
        evaluation(1, None, Finding("mmd", note="window too short"), Finding("ks/ü", 0.125, 0.5, 1e-300)),
    ]
    firing = evaluation(2, 0, Finding("", 1.0, 0.5, decision=True))
    journal.add_evaluations(row.id, quiet)
    journal.add_evaluations(row.id, [])
    trigger = TriggerRow(0, timestamp=9, reason="r", new_samples=5)
    journal.add_evaluations(row.id, [firing])
    journal.add_triggers(row.id, [trigger], trigger_state={})
    journal.add_evaluations(other.id, quiet[:1])
    assert journal.evaluations(row.id) == [*quiet, firing]
    assert journal.evaluations(other.id) == quiet[:1]


def test_what_is_not_finite_becomes_nothing(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row = new_pipeline(journal)
    journal.add_evaluations(row.id, [evaluation(0, None, Finding("a", math.inf, math.nan, decision=True))])
    [stored] = journal.evaluations(row.id)
    assert stored.evaluation.findings == (Finding("a", decision=True),)


def test_triggers_and_the_position_are_written_together_or_not_at_all(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row = new_pipeline(journal)
    triggers = [TriggerRow(index, timestamp=9, reason="r", new_samples=5) for index in (0, 1, 1)]
    with pytest.raises(sa.exc.IntegrityError):
        journal.add_triggers(row.id, triggers, trigger_state={}, cursor=5)
    assert journal.triggers(row.id) == []
    assert journal.pipeline(row.id).cursor is None


def test_pipelines_of_an_earlier_version_were_not_simulated(any_catalog: Catalog, tmp_path: Path) -> None:
    versions = Path(j.__file__).parent / "migrations" / "versions"
    shutil.copy(versions / "0001_initial.py", tmp_path)
    any_catalog.migrate("supervisor", tmp_path)
    with any_catalog.write() as connection:
        old = sa.Table("pipelines", sa.MetaData(), autoload_with=connection)
        row = PipelineRow(0, "p", "d", j.COMPLETED, False, YAML, "event", 1.0, [])
        fields = {key: value for key, value in asdict(row).items() if key in old.c and key != "id"}
        connection.execute(old.insert().values(fields))
    [pipeline] = Journal(any_catalog).pipelines()
    assert (pipeline.name, pipeline.simulated) == ("p", False)
    assert Journal(any_catalog).evaluations(pipeline.id) == []


def test_trainings_of_an_earlier_version_were_not_downsampled(any_catalog: Catalog, tmp_path: Path) -> None:
    versions = Path(j.__file__).parent / "migrations" / "versions"
    for name in ("0001_initial.py", "0002_trigger_evaluations.py"):
        shutil.copy(versions / name, tmp_path)
    any_catalog.migrate("supervisor", tmp_path)
    pipeline = PipelineRow(1, "p", "d", j.COMPLETED, False, YAML, "event", 1.0, [])
    trigger = TriggerRow(0, timestamp=9, reason="r", new_samples=5, model="m")
    with any_catalog.write() as connection:
        for name, fields in (("pipelines", asdict(pipeline)), ("pipeline_triggers", asdict(trigger))):
            old = sa.Table(name, sa.MetaData(), autoload_with=connection)
            values = {key: value for key, value in {"pipeline_id": 1, **fields}.items() if key in old.c}
            connection.execute(old.insert().values(values))
    journal = Journal(any_catalog)
    assert journal.pipelines() == [pipeline]
    assert journal.triggers(1) == [trigger]
    assert journal.baselines(1) == []


def test_baselines_are_those_of_one_pipeline_oldest_first(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    compared, other = new_pipeline(journal), new_pipeline(journal)
    kinds: list[tuple[BaselineKind, PipelineRow]]
    kinds = [("fewer_epochs", compared), ("uniform", other), ("uniform", compared)]
    rows = [journal.create_pipeline(replace(compared, id=0, baseline=kind, baseline_of=of.id)) for kind, of in kinds]
    assert journal.baselines(compared.id) == [rows[0], rows[2]]
    assert journal.baselines(rows[0].id) == []


def test_scores_are_replaced_not_repeated(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row = new_pipeline(journal)
    window = WindowRow("h", "d", DAY, samples=3, unlabelled=1)
    for value in (0.25, 0.5):
        journal.add_scores(row.id, [window, window], [ScoreRow("h", "d", DAY, j.trigger_subject(0), "Accuracy", value)])
    journal.add_scores(row.id, [], [ScoreRow("h", "d", DAY, j.baseline_subject("last_label"), "Accuracy", None)])
    assert journal.windows(row.id) == [window]
    assert {(score.subject, score.value) for score in journal.scores(row.id)} == {
        ("trigger:0", 0.5),
        ("baseline:last_label", None),
    }


def test_what_an_evaluation_said_reads_back(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row, other = new_pipeline(journal), new_pipeline(journal)
    place = ("h", "d", DAY)
    window = WindowRow(*place, 3, 1, "certified", "digest", baselines=True)
    score = ScoreRow(*place, "trigger:0", "F1-macro#3", 0.5, 0.25, 0.75)
    confusion = ConfusionRow(*place, "trigger:0", [(-1, 0, 2**40), (1, 1, 3)])
    journal.add_scored(row.id, Scored([window], [score], [confusion]))
    offsets = [OffsetRow(*place, 0, "+1w"), OffsetRow(*place, 1, "-1w")]
    metrics = [MetricRow("h", "d", "Brier", "digest", greater_is_better=False)]
    failure = FailureRow("no \0", handler="h", dataset="d", trigger_index=0, start=0, end=2**40, metric="Brier")
    handler = HandlerRow("h", {"name": "h"}, [{"dataset_id": "d"}], {"labels": "known"}, {"d": {"end_key": 5}}, 1.0)
    for _ in range(2):  # again it changes nothing
        journal.add_offsets(row.id, offsets)
        journal.add_metrics(row.id, metrics)
        journal.keep_handlers(row.id, [handler])
        journal.add_failures(row.id, [failure])
    assert (journal.windows(row.id), journal.scores(row.id)) == ([window], [score])
    assert (journal.confusions(row.id), journal.offsets(row.id)) == ([confusion], offsets)
    assert (journal.metrics(row.id), journal.handlers(row.id)) == (metrics, [handler])
    assert list(journal.scored(row.id)) == [(*place, "trigger:0")]
    assert failure_messages(journal.failure_rows(row.id)) == ["no \\0"]
    first, second = journal.failure_rows(row.id)
    assert replace(second, id=first.id) == first == replace(failure, id=first.id, message="no \\0")
    journal.forget_failures([first.id, second.id])
    assert failure_messages(journal.failure_rows(row.id)) == []

    journal.add_scored(row.id, Scored([window], [replace(score, metric="F1-macro")], [], [(*place, "trigger:0")]))
    assert ([s.metric for s in journal.scores(row.id)], journal.confusions(row.id)) == (["F1-macro"], [])
    journal.drop_windows(row.id, "h", "d", {DAY})
    assert (journal.windows(row.id), journal.scores(row.id), journal.offsets(row.id)) == ([], [], [])
    journal.add_evaluation_cost(row.id, EvaluationCost(0.5, 2.0, 2**40, 100, 60))
    journal.add_evaluation_cost(row.id, EvaluationCost(0.25, later=True))
    spent = journal.pipeline(row.id)
    assert (spent.evaluate_seconds, spent.evaluate_later_seconds, spent.evaluate_reused_seconds) == (0.75, 0.25, 2.0)
    assert (spent.evaluate_bytes, spent.evaluate_samples, spent.evaluate_samples_reused) == (2**40, 100, 60)
    assert journal.pipeline(other.id) == other


def test_scores_of_an_earlier_version_are_reported(any_catalog: Catalog, tmp_path: Path) -> None:
    for version in (Path(j.__file__).parent / "migrations" / "versions").glob("000[1-4]_*.py"):
        shutil.copy(version, tmp_path)
    any_catalog.migrate("supervisor", tmp_path)
    section = "evaluation: {handlers: [{name: h, strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]}\n"
    yaml = YAML + "data: {dataset_id: d}\nmodel: {id: MLP, config: {in_features: 2, num_classes: 2}}\n" + section
    yaml += "trigger: {id: DataAmountTrigger, num_samples: 5}\n"
    key = {"pipeline_id": 1, "handler": "h", "dataset": "d", "start_time": 20, "end_time": 30, "anchor": 20}
    rows: dict[str, dict[str, Any]] = {
        "pipelines": asdict(PipelineRow(1, "p", "d", j.COMPLETED, False, yaml, "event", 1.0, [], ended_at=2.0)),
        "pipeline_triggers": {
            "pipeline_id": 1,
            **asdict(TriggerRow(0, timestamp=19, reason="r", new_samples=5, last_timestamp=19, model="m")),
        },
        "evaluation_windows": {**key, "samples": 3, "unlabelled": 1},
        "evaluation_scores": {**key, "subject": "trigger:0", "metric": "Accuracy", "value": 0.5},
        "evaluation_failures": {"pipeline_id": 1, "message": "no"},
    }
    with any_catalog.write() as connection:
        for name, fields in rows.items():
            old = sa.Table(name, sa.MetaData(), autoload_with=connection)
            connection.execute(old.insert().values({name: value for name, value in fields.items() if name in old.c}))
    journal = Journal(any_catalog)
    report = build_report(journal, journal.pipeline(1))
    score = report.composite["h"]["d"]["Accuracy"]
    assert (score.currently_active, score.windows_scored, score.interval) == (0.5, 1, None)
    assert (report.windows[0].certification, report.failures, report.triggers[0].live_from) == (None, ["no"], 19)


def test_migrations_give_the_tables_that_the_code_declares(any_catalog: Catalog) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    Journal(any_catalog)
    with any_catalog.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "alembic_version_supervisor"})
        assert compare_metadata(context, METADATA) == []


def test_errors_may_hold_what_no_database_stores(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    row = new_pipeline(journal)
    journal.update_pipeline(row.id, error="output: \0 \udcff")
    journal.add_failure(row.id, "a\0b")
    assert journal.pipeline(row.id).error == "output: \\0 \\udcff"
    assert failure_messages(journal.failure_rows(row.id)) == ["a\\0b"]


def test_whose_models_others_have_too(any_catalog: Catalog) -> None:
    journal = Journal(any_catalog)
    ids = [new_pipeline(journal).id for _ in range(3)]
    of_each: list[list[str | None]] = [["a", "b"], ["b", None, "c"], ["d"]]
    for pipeline_id, models in zip(ids, of_each, strict=True):
        rows = [TriggerRow(index, 0, "", 1, model=model, training_set="t") for index, model in enumerate(models)]
        journal.add_triggers(pipeline_id, rows, cursor=1)

    def found(**which: Any) -> list[tuple[int, str]]:
        return [(row.pipeline_id, row.model) for row in journal.trained(**which)]

    first, second, third = ids
    assert found(having=["b"]) == [(first, "a"), (first, "b"), (second, "b"), (second, "c")]
    assert found(having=["b"], besides=first) == [(second, "b"), (second, "c")]
    assert found(having=["x"]) == []
    assert found(besides=second) == [(first, "a"), (first, "b"), (third, "d")]
    many = [f"{number}" for number in range(j.MAX_NAMED_IN_QUERY + 1)]
    assert found(having=many) == found()
