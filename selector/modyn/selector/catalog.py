"""The one place where the selector speaks to the database."""

from __future__ import annotations

from collections.abc import Collection
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
class UnusedTrainingSet:
    """A training set that no trigger selected lately; ``last_selected`` in Unix seconds."""

    digest: str
    key_file: str
    last_selected: float


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

    def training_sets_unused_since(self, time: float) -> list[UnusedTrainingSet]:
        """Training sets that no trigger selected after this time, Unix seconds; by digest."""
        last = sa.func.coalesce(sa.func.max(trigger_data.c.created_at), training_sets.c.created_at).label("last")
        query = (
            sa.select(training_sets.c.digest, training_sets.c.key_file, last)
            .join(trigger_data, trigger_data.c.training_set == training_sets.c.digest, isouter=True)
            .group_by(training_sets.c.digest, training_sets.c.key_file, training_sets.c.created_at)
            .having(last <= time)
            .order_by(training_sets.c.digest)
        )
        with self._catalog.read() as connection:
            return [UnusedTrainingSet(row.digest, row.key_file, row.last) for row in connection.execute(query)]

    def forget(self, digest: str, time: float) -> bool:
        """Removes a training set and the triggers that selected it, unless one did after this time; whether it did."""
        mine = trigger_data.c.training_set == digest
        with self._catalog.write() as connection:
            later = sa.select(trigger_data.c.training_set).where(mine, trigger_data.c.created_at > time)
            if connection.execute(later.limit(1)).first() is not None:
                return False
            connection.execute(trigger_data.delete().where(mine))
            connection.execute(training_sets.delete().where(training_sets.c.digest == digest))
        return True

    def files_named(self, without: Collection[str] = ()) -> set[str]:
        """Digests of all key files that rows name, but for those of some training sets and their triggers."""
        sets = sa.select(training_sets.c.digest, training_sets.c.key_file)
        triggers = sa.select(trigger_data.c.training_set, trigger_data.c.new_data)
        with self._catalog.read() as connection:
            rows = [*connection.execute(sets), *connection.execute(triggers)]
        left_out = set(without)
        return {file for digest, file in rows if digest not in left_out}

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
