"""The journal: the one class that speaks to the supervisor's tables. A method is a named query.

Longer than most modules because it is one class, with a row type for each table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from modyn.core.catalog import Catalog, replace_rows
from modyn.core.errors import NotFoundError
from modyn.core.plugins.evaluation import Window
from modyn.core.plugins.triggers import Evaluation, Finding
from modyn.core.report import BaselineKind
from modyn.supervisor.tables import EVALUATIONS, FAILURES, PIPELINES, SCORES, TRIGGERS, WINDOWS

STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
COMPLETED, STOPPED, FAILED, INTERRUPTED = "completed", "stopped", "failed", "interrupted"
UNFINISHED = (STARTING, RUNNING, STOPPING)

MAX_NAMED_IN_QUERY = 500
"""A query that would name more rows than so many asks for all."""


@dataclass(frozen=True)
class PipelineRow:
    """A pipeline as journaled; see ``tables.PIPELINES``."""

    id: int
    name: str
    dataset: str
    status: str
    live: bool
    resolved_yaml: str
    replay_order: str
    created_at: float
    notices: list[str]
    simulated: bool = False
    start_time: int | None = None
    stop_time: int | None = None
    start_key: int | None = None
    end_key: int | None = None
    maximum_triggers: int | None = None
    baseline_of: int | None = None
    baseline: BaselineKind | None = None
    code_root: str | None = None
    ended_at: float | None = None
    error: str | None = None
    input_error: bool | None = None
    samples_seen: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    cursor: int | None = None
    trigger_state: dict[str, Any] | None = None
    ingest_seconds: float = 0.0
    trigger_seconds: float = 0.0
    trigger_embedded: int = 0
    trigger_predicted: int = 0
    evaluate_seconds: float = 0.0
    evaluate_reused_seconds: float = 0.0


@dataclass(frozen=True)
class TriggerRow:
    """A finished trigger; see ``tables.TRIGGERS``."""

    trigger_index: int
    timestamp: int
    reason: str
    new_samples: int
    samples: int = 0
    unlabelled: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    training_set: str | None = None
    model: str | None = None
    input_digest: str | None = None
    samples_trained: int = 0
    batches: int = 0
    final_loss: float | None = None
    reused: bool = False
    first_batch_ms: float | None = None
    select_seconds: float = 0.0
    start_seconds: float = 0.0
    train_seconds: float = 0.0
    store_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    total_seconds: float = 0.0
    downsampling: str | None = None
    trained: str | None = None
    samples_offered: int = 0
    samples_scored: int = 0
    scores_reused: int = 0
    auxiliary_samples: int = 0
    score_seconds: float = 0.0
    choose_seconds: float = 0.0
    auxiliary_seconds: float = 0.0


@dataclass(frozen=True)
class TrainedRow:
    """What a trigger that trained a model left in other services: digests.

    Attributes:
        trained: of the record of what was really trained; None: the whole training set.
    """

    pipeline_id: int
    trigger_index: int
    training_set: str
    model: str
    trained: str | None


@dataclass(frozen=True)
class EvaluationRow:
    """Why a trigger fired, or did not; see ``tables.EVALUATIONS``.

    Attributes:
        number: 0, 1, 2 … within the pipeline.
        trigger_index: of the trigger that it fired, or None.
    """

    number: int
    trigger_index: int | None
    evaluation: Evaluation


@dataclass(frozen=True)
class WindowRow:
    """A window of a handler on a dataset, and how many samples it has."""

    handler: str
    dataset: str
    window: Window
    samples: int
    unlabelled: int


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one subject (``trigger:<index>`` or ``baseline:<name>``) on one window."""

    handler: str
    dataset: str
    window: Window
    subject: str
    metric: str
    value: float | None


BASELINE_PREFIX = "baseline:"
"""Of the subjects that are baselines."""


def trigger_subject(index: int) -> str:
    """The subject of scores of a trigger's model."""
    return f"trigger:{index}"


def baseline_subject(name: str) -> str:
    """The subject of scores of a baseline."""
    return BASELINE_PREFIX + name


class Journal:
    """Pipelines, triggers and scores in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        catalog.migrate("supervisor", Path(__file__).parent / "migrations" / "versions")

    # ------------------------------------------------------------------------------------------ pipelines

    def create_pipeline(self, row: PipelineRow) -> PipelineRow:
        """Inserts a pipeline; answers it with its id."""
        fields = {key: value for key, value in asdict(row).items() if key != "id"}
        with self._catalog.write() as connection:
            result = connection.execute(PIPELINES.insert().values(**fields).returning(PIPELINES.c.id))
            return replace(row, id=result.scalar_one())

    def update_pipeline(self, pipeline_id: int, **fields: Any) -> None:
        if isinstance(error := fields.get("error"), str):
            fields["error"] = _text(error)
        with self._catalog.write() as connection:
            connection.execute(PIPELINES.update().where(PIPELINES.c.id == pipeline_id).values(**fields))

    def pipeline(self, pipeline_id: int) -> PipelineRow:
        """
        Raises:
            NotFoundError: there is no such pipeline.
        """
        with self._catalog.read() as connection:
            row = connection.execute(sa.select(PIPELINES).where(PIPELINES.c.id == pipeline_id)).mappings().first()
        if row is None:
            raise NotFoundError(f"no pipeline has the id {pipeline_id}; `modyn-client list` shows all")
        return PipelineRow(**row)

    def pipelines(self) -> list[PipelineRow]:
        """All pipelines, oldest first."""
        with self._catalog.read() as connection:
            rows = connection.execute(sa.select(PIPELINES).order_by(PIPELINES.c.id)).mappings().all()
        return [PipelineRow(**row) for row in rows]

    def baselines(self, pipeline_id: int) -> list[PipelineRow]:
        """Pipelines that were trained beside one to compare it with, oldest first."""
        query = sa.select(PIPELINES).where(PIPELINES.c.baseline_of == pipeline_id).order_by(PIPELINES.c.id)
        with self._catalog.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [PipelineRow(**row) for row in rows]

    def interrupt_unfinished(self) -> None:
        """Marks pipelines whose server died; only their server writes them, and that is us now."""
        with self._catalog.write() as connection:
            connection.execute(
                PIPELINES.update()
                .where(PIPELINES.c.status.in_(UNFINISHED))
                .values(
                    status=INTERRUPTED,
                    ended_at=time.time(),
                    error="the server ended while the pipeline ran; run it again, finished trainings are reused",
                    input_error=False,
                )
            )

    # ------------------------------------------------------------------------------------------- triggers

    def add_triggers(self, pipeline_id: int, rows: Sequence[TriggerRow], **position: Any) -> None:
        """Triggers are done: their rows, the policy's memory and the loop's position, all or none.

        Args:
            pipeline_id: of the pipeline.
            rows: of the triggers, in order.
            position: columns of the pipeline's row that say where the loop is, such as ``cursor``, and what the policy
                remembers, ``trigger_state``.
        """
        with self._catalog.write() as connection:
            connection.execute(TRIGGERS.insert(), [{"pipeline_id": pipeline_id, **asdict(row)} for row in rows])
            connection.execute(PIPELINES.update().where(PIPELINES.c.id == pipeline_id).values(**position))

    def triggers(self, pipeline_id: int) -> list[TriggerRow]:
        query = sa.select(TRIGGERS).where(TRIGGERS.c.pipeline_id == pipeline_id).order_by(TRIGGERS.c.trigger_index)
        with self._catalog.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [TriggerRow(**{key: value for key, value in row.items() if key != "pipeline_id"}) for row in rows]

    def trained(self, having: Collection[str] | None = None, besides: int | None = None) -> list[TrainedRow]:
        """Triggers of all pipelines that trained a model, by pipeline and in order.

        Args:
            having: only pipelines that have one of these models.
            besides: not those of this pipeline.
        """
        columns = [TRIGGERS.c[name] for name in TrainedRow.__dataclass_fields__]
        query = sa.select(*columns).where(TRIGGERS.c.model.is_not(None))
        if besides is not None:
            query = query.where(TRIGGERS.c.pipeline_id != besides)
        if having is not None and len(having) <= MAX_NAMED_IN_QUERY:
            with_one = sa.select(TRIGGERS.c.pipeline_id).where(TRIGGERS.c.model.in_(having))
            query = query.where(TRIGGERS.c.pipeline_id.in_(with_one))
        with self._catalog.read() as connection:
            rows = connection.execute(query.order_by(TRIGGERS.c.pipeline_id, TRIGGERS.c.trigger_index)).all()
        return [TrainedRow(**row._mapping) for row in rows]

    def add_evaluations(self, pipeline_id: int, evaluations: Sequence[EvaluationRow]) -> None:
        """Evaluations of a trigger; that of a firing comes before the trigger's own row, which takes a training."""
        values = [
            {"pipeline_id": pipeline_id, "number": r.number, "trigger_index": r.trigger_index, **asdict(r.evaluation)}
            for r in evaluations
        ]
        for value in values:
            value["findings"] = [_finite(finding) for finding in value["findings"]]
        if values:
            with self._catalog.write() as connection:
                connection.execute(EVALUATIONS.insert(), values)

    def evaluations(self, pipeline_id: int) -> list[EvaluationRow]:
        """All evaluations of a pipeline's trigger, in the order in which they were made."""
        query = sa.select(EVALUATIONS).where(EVALUATIONS.c.pipeline_id == pipeline_id).order_by(EVALUATIONS.c.number)
        with self._catalog.read() as connection:
            rows = connection.execute(query).all()
        return [
            EvaluationRow(
                r.number,
                r.trigger_index,
                Evaluation(
                    r.first_timestamp,
                    r.last_timestamp,
                    r.num_samples,
                    decision=r.decision,
                    reason=r.reason,
                    findings=tuple(Finding(**finding) for finding in r.findings),
                    seconds=r.seconds,
                ),
            )
            for r in rows
        ]

    def trigger_counts(self) -> dict[int, int]:
        """Number of triggers by pipeline."""
        query = sa.select(TRIGGERS.c.pipeline_id, sa.func.count()).group_by(TRIGGERS.c.pipeline_id)
        with self._catalog.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    # ------------------------------------------------------------------------------------------ evaluations

    def add_scores(self, pipeline_id: int, windows: Sequence[WindowRow], scores: Sequence[ScoreRow]) -> None:
        """Adds what an evaluation said; windows and scores known already are replaced."""
        window_rows = [
            {**_window_key(pipeline_id, row), "samples": row.samples, "unlabelled": row.unlabelled} for row in windows
        ]
        score_rows = [
            {**_window_key(pipeline_id, row), "subject": row.subject, "metric": row.metric, "value": row.value}
            for row in scores
        ]
        with self._catalog.write() as connection:
            replace_rows(connection, WINDOWS, window_rows)
            replace_rows(connection, SCORES, score_rows)

    def add_failure(self, pipeline_id: int, message: str) -> None:
        with self._catalog.write() as connection:
            connection.execute(FAILURES.insert().values(pipeline_id=pipeline_id, message=_text(message)))

    def failures(self, pipeline_id: int) -> list[str]:
        query = sa.select(FAILURES.c.message).where(FAILURES.c.pipeline_id == pipeline_id).order_by(FAILURES.c.id)
        with self._catalog.read() as connection:
            return list(connection.execute(query).scalars())

    def windows(self, pipeline_id: int) -> list[WindowRow]:
        """All windows, by handler, dataset and time."""
        query = (
            sa.select(WINDOWS)
            .where(WINDOWS.c.pipeline_id == pipeline_id)
            .order_by(WINDOWS.c.handler, WINDOWS.c.dataset, WINDOWS.c.anchor, WINDOWS.c.start_time, WINDOWS.c.end_time)
        )
        with self._catalog.read() as connection:
            rows = connection.execute(query).all()
        return [
            WindowRow(r.handler, r.dataset, Window(r.start_time, r.end_time, r.anchor), r.samples, r.unlabelled)
            for r in rows
        ]

    def scores(self, pipeline_id: int) -> list[ScoreRow]:
        query = sa.select(SCORES).where(SCORES.c.pipeline_id == pipeline_id)
        with self._catalog.read() as connection:
            rows = connection.execute(query).all()
        return [
            ScoreRow(r.handler, r.dataset, Window(r.start_time, r.end_time, r.anchor), r.subject, r.metric, r.value)
            for r in rows
        ]


def _finite(finding: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinities."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in finding.items()
    }


def _text(message: str) -> str:
    """What PostgreSQL stores as text: the output of a failed job, which stands in its error, may hold anything."""
    return message.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _window_key(pipeline_id: int, row: WindowRow | ScoreRow) -> dict[str, Any]:
    return {
        "pipeline_id": pipeline_id,
        "handler": row.handler,
        "dataset": row.dataset,
        "start_time": row.window.start,
        "end_time": row.window.end,
        "anchor": row.window.anchor,
    }
