"""The journal: the one class that speaks to the supervisor's tables. A method is a named query."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from modyn.core.catalog import Catalog
from modyn.core.errors import NotFoundError
from modyn.core.plugins.triggers import Evaluation, Finding
from modyn.supervisor.rows import (
    BASELINE_PREFIX,
    EvaluationRow,
    PipelineRow,
    ScoreRow,
    TrainedRow,
    TriggerRow,
    WindowRow,
    baseline_subject,
    trigger_subject,
)
from modyn.supervisor.score_tables import ScoreTables, storable_text
from modyn.supervisor.tables import EVALUATIONS, PIPELINES, TRIGGERS

__all__ = [
    "BASELINE_PREFIX",
    "EvaluationRow",
    "Journal",
    "PipelineRow",
    "ScoreRow",
    "TrainedRow",
    "TriggerRow",
    "WindowRow",
    "baseline_subject",
    "trigger_subject",
]

STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
COMPLETED, STOPPED, FAILED, INTERRUPTED = "completed", "stopped", "failed", "interrupted"
UNFINISHED = (STARTING, RUNNING, STOPPING)

MAX_NAMED_IN_QUERY = 500
"""A query that would name more rows than so many asks for all."""


class Journal(ScoreTables):
    """Pipelines, triggers and scores in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
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
            fields["error"] = storable_text(error)
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
        values = [{"pipeline_id": pipeline_id, **asdict(row)} for row in rows]
        for value in values:
            value["error"] = None if value["error"] is None else storable_text(value["error"])
        with self._catalog.write() as connection:
            connection.execute(TRIGGERS.insert(), values)
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


def _finite(finding: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinities."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in finding.items()
    }
