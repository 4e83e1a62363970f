"""The one class that speaks to the trainer server's tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from modyn.core.catalog import Catalog, insert_missing, replace_rows
from modyn.trainer_server.tables import lineage, trainings

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


@dataclass(frozen=True)
class FinishedTraining:
    """A training that ended well: where it belonged, and its numbers.

    Attributes:
        input_digest: of everything the training depended on.
        model: content digest of the weights.
        epoch_losses: mean over samples of each epoch.
        downsampling: what it did, a ``DownsamplingResult`` as plain values; None: there was none.
        numbers: all the others too, a ``TrainResult`` as plain values; None: an earlier release did not keep it.
    """

    input_digest: str
    model: str
    dataset: str
    training_set: str
    initial_model: str | None
    pipeline_id: str
    trigger_index: int
    num_samples: int
    samples_trained: int
    batches: int
    epochs: int
    train_seconds: float
    store_seconds: float
    job_seconds: float
    epoch_losses: tuple[float, ...]
    downsampling: dict[str, Any] | None = None
    numbers: dict[str, Any] | None = None


@dataclass(frozen=True)
class LineageRow:
    """A trigger of a pipeline that got a model of a training set.

    Attributes:
        reused: it had been trained before.
        created_at: Unix seconds.
        trained: digest of the record of what was really trained; None: the whole set.
        numbers: of the training, a ``TrainResult`` as plain values; None: reused, or not kept by an earlier release.
        auxiliary_used: digests of auxiliary models that it took over from an earlier trigger; None: none.
        auxiliary_left: those that it left for a later one; None: none.
    """

    pipeline_id: str
    trigger_index: int
    training_set: str
    model: str
    dataset: str
    initial_model: str | None
    reused: bool
    created_at: float
    trained: str | None = None
    numbers: dict[str, Any] | None = None
    auxiliary_used: list[str] | None = None
    auxiliary_left: list[str] | None = None


class TrainingStore:
    """Finished trainings by the digest of their inputs, and which models came of which training sets."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        catalog.migrate("trainer_server", _MIGRATIONS)

    def find(self, input_digest: str) -> FinishedTraining | None:
        """The training of these inputs, if there was one."""
        query = sa.select(trainings).where(trainings.c.input_digest == input_digest)
        with self._catalog.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        fields = {name: value for name, value in row.items() if name != "created_at"}
        return FinishedTraining(**{**fields, "epoch_losses": tuple(row["epoch_losses"])})

    def record(self, training: FinishedTraining, row: LineageRow | None = None) -> None:
        """Keeps a training for reuse; one of the same inputs is replaced.

        Args:
            row: where its model came from, as in :meth:`add_lineage`; both are kept or neither.
        """
        values = {**asdict(training), "epoch_losses": list(training.epoch_losses), "created_at": time.time()}
        with self._catalog.write() as connection:
            replace_rows(connection, trainings, [values])
            if row is not None:
                insert_missing(connection, lineage, [asdict(row)])

    def add_lineage(self, row: LineageRow) -> None:
        """Remembers for good where a model came from; repeating it changes nothing."""
        with self._catalog.write() as connection:
            insert_missing(connection, lineage, [asdict(row)])

    def lineage(self) -> list[LineageRow]:
        """All of it, oldest first; one row per trigger that was ever trained."""
        return self._lineage(sa.true())

    def each_lineage(self) -> Iterator[LineageRow]:
        """All of it in no order, a few rows in memory at a time: numbers of a training may take much."""
        with self._catalog.read() as connection:
            for row in connection.execute(sa.select(lineage), execution_options={"yield_per": 100}).mappings():
                yield LineageRow(**row)

    def lineage_of(self, model: str) -> list[LineageRow]:
        """Of one model, oldest first."""
        return self._lineage(lineage.c.model == model)

    def lineage_of_models_of(self, pipeline_id: str) -> list[LineageRow]:
        """Of all models that a pipeline has, also their rows of other pipelines; oldest first."""
        mine = sa.select(lineage.c.model).where(lineage.c.pipeline_id == pipeline_id)
        return self._lineage(lineage.c.model.in_(mine))

    def models_like(self, prefix: str, limit: int) -> list[str]:
        """At most ``limit`` digests of models that begin like this, in order."""
        query = sa.select(lineage.c.model).distinct().where(lineage.c.model.startswith(prefix, autoescape=True))
        with self._catalog.read() as connection:
            return list(connection.execute(query.order_by(lineage.c.model).limit(limit)).scalars())

    def newest_model_of(self, pipeline_id: str, trigger_index: int) -> str | None:
        """Digest of the model that a trigger got last."""
        query = (
            sa.select(lineage.c.model)
            .where(lineage.c.pipeline_id == pipeline_id, lineage.c.trigger_index == trigger_index)
            .order_by(lineage.c.created_at.desc())
            .limit(1)
        )
        with self._catalog.read() as connection:
            return connection.execute(query).scalar()

    def _lineage(self, where: sa.ColumnElement[bool]) -> list[LineageRow]:
        query = sa.select(lineage).where(where).order_by(lineage.c.created_at)
        with self._catalog.read() as connection:
            return [LineageRow(**row) for row in connection.execute(query).mappings()]
