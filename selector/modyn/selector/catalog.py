"""The one place where the selector speaks to the database."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from modyn.core.catalog import Catalog, insert_missing
from modyn.selector.tables import training_sets, trigger_data


@dataclass(frozen=True)
class TrainingSetRow:
    """A stored training set: keys and weights in a file, and which labels belong to it."""

    digest: str
    dataset: str
    num_samples: int
    has_weights: bool
    created_at: float
    key_file: str
    label_version: int = 0
    label_time: int | None = None
    label_arrival: int | None = None


@dataclass(frozen=True)
class TriggerRow:
    """One trigger of a pipeline: what it selected from, how, and the result."""

    pipeline_id: str
    trigger_index: int
    dataset: str
    new_data: str
    num_new: int
    num_unlabelled: int
    end_key: int
    last_timestamp: int | None
    selection: dict[str, Any]
    seed: int
    input_digest: str
    training_set: str
    seconds: float
    created_at: float


class SelectorCatalog:
    """Named queries; a method is one transaction."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        catalog.migrate("selector", Path(__file__).parent / "migrations" / "versions")

    def trigger(self, pipeline_id: str, trigger_index: int) -> TriggerRow | None:
        query = sa.select(trigger_data).where(
            trigger_data.c.pipeline_id == pipeline_id, trigger_data.c.trigger_index == trigger_index
        )
        return self._one_trigger(query)

    def newest_trigger_of(self, training_set: str) -> TriggerRow | None:
        """The last trigger that selected a training set."""
        query = (
            sa.select(trigger_data)
            .where(trigger_data.c.training_set == training_set)
            .order_by(trigger_data.c.created_at.desc(), trigger_data.c.trigger_index.desc())
            .limit(1)
        )
        return self._one_trigger(query)

    def last_trigger(self, pipeline_id: str) -> TriggerRow | None:
        query = (
            sa.select(trigger_data)
            .where(trigger_data.c.pipeline_id == pipeline_id)
            .order_by(trigger_data.c.trigger_index.desc())
            .limit(1)
        )
        return self._one_trigger(query)

    def new_data(self, pipeline_id: str, first: int, stop: int) -> list[str]:
        """Digests of the new data of triggers ``first <= index < stop``, in order."""
        return self._of_triggers(sa.select(trigger_data.c.new_data), pipeline_id, first, stop)

    def selected(self, pipeline_id: str, first: int, stop: int) -> list[str]:
        """Digests of the key files of the training sets of triggers ``first <= index < stop``, in order."""
        query = sa.select(training_sets.c.key_file).join(
            trigger_data, trigger_data.c.training_set == training_sets.c.digest
        )
        return self._of_triggers(query, pipeline_id, first, stop)

    def training_set(self, digest: str) -> TrainingSetRow | None:
        query = sa.select(training_sets).where(training_sets.c.digest == digest)
        with self._catalog.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return TrainingSetRow(**row) if row is not None else None

    def training_sets_of(self, dataset: str) -> list[TrainingSetRow]:
        """All sets of a dataset; those of one file follow each other."""
        query = (
            sa.select(training_sets)
            .where(training_sets.c.dataset == dataset)
            .order_by(training_sets.c.key_file, training_sets.c.digest)
        )
        with self._catalog.read() as connection:
            return [TrainingSetRow(**row) for row in connection.execute(query).mappings()]

    def record(self, trigger: TriggerRow, training_set: TrainingSetRow) -> None:
        """Makes a trigger and its training set known, both or neither."""
        with self._catalog.write() as connection:
            # Other pipelines may be selecting the same set at this moment.
            insert_missing(connection, training_sets, [asdict(training_set)])
            connection.execute(trigger_data.insert().values(asdict(trigger)))

    def _of_triggers(self, query: sa.Select[Any], pipeline_id: str, first: int, stop: int) -> list[str]:
        """A column of triggers ``first <= index < stop`` of a pipeline, in order."""
        index = trigger_data.c.trigger_index
        query = query.where(trigger_data.c.pipeline_id == pipeline_id, index >= first, index < stop).order_by(index)
        with self._catalog.read() as connection:
            return list(connection.execute(query).scalars())

    def _one_trigger(self, query: sa.Select[Any]) -> TriggerRow | None:
        with self._catalog.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return TriggerRow(**row) if row is not None else None
