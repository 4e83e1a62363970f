"""The one class that speaks to the trainer server's tables."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class LineageRow:
    """A trigger of a pipeline that got a model of a training set; ``reused``: one that had been trained before."""

    pipeline_id: str
    trigger_index: int
    training_set: str
    model: str
    dataset: str
    initial_model: str | None
    reused: bool
    created_at: float


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

    def record(self, training: FinishedTraining) -> None:
        """Keeps a training for reuse; one of the same inputs is replaced."""
        values = {**asdict(training), "epoch_losses": list(training.epoch_losses), "created_at": time.time()}
        with self._catalog.write() as connection:
            replace_rows(connection, trainings, [values])

    def add_lineage(self, row: LineageRow) -> None:
        """Remembers for good where a model came from; repeating it changes nothing."""
        with self._catalog.write() as connection:
            insert_missing(connection, lineage, [asdict(row)])

    def lineage(self) -> list[LineageRow]:
        """All of it, oldest first; one row per trigger that was ever trained."""
        with self._catalog.read() as connection:
            rows = connection.execute(sa.select(lineage).order_by(lineage.c.created_at)).mappings().all()
        return [LineageRow(**row) for row in rows]
