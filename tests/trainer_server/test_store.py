from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace

import sqlalchemy as sa

from modyn.core.catalog import Catalog, replace_rows
from modyn.trainer_server.store import FinishedTraining, TrainingStore
from modyn.trainer_server.tables import metadata, trainings

TRAINING = FinishedTraining(
    input_digest="in",
    model="model",
    dataset="d",
    training_set="set",
    initial_model=None,
    pipeline_id="p",
    trigger_index=3,
    num_samples=2**40,
    samples_trained=2**41,
    batches=7,
    epochs=2,
    train_seconds=1.5,
    store_seconds=0.1,
    job_seconds=1.7,
    epoch_losses=(0.123456789012345, 0.1),
)


def test_finds_what_was_recorded(any_catalog: Catalog) -> None:
    store = TrainingStore(any_catalog)
    assert store.find("in") is None
    store.record(TRAINING)
    assert TrainingStore(any_catalog).find("in") == TRAINING
    assert store.find("other") is None


def test_a_later_training_of_the_same_inputs_replaces(any_catalog: Catalog) -> None:
    store = TrainingStore(any_catalog)
    again = replace(TRAINING, model="other", initial_model="first", epoch_losses=())
    store.record(TRAINING)
    store.record(again)
    assert store.find("in") == again


def test_migrations_make_the_tables_the_code_uses(any_catalog: Catalog) -> None:
    TrainingStore(any_catalog)
    with any_catalog.read() as connection:
        inspector = sa.inspect(connection)
        for table in metadata.tables.values():
            found = {column["name"]: column for column in inspector.get_columns(table.name)}
            assert set(found) == set(table.columns.keys())
            for column in table.columns:
                assert found[column.name]["nullable"] == column.nullable
                assert isinstance(found[column.name]["type"], type(column.type.as_generic()) | sa.Double | sa.JSON)


def test_two_equal_trainings_may_end_at_once(any_catalog: Catalog) -> None:
    store = TrainingStore(any_catalog)
    started = threading.Event()

    def other() -> None:
        started.set()
        store.record(replace(TRAINING, model="other"))

    row = {**asdict(TRAINING), "epoch_losses": [], "created_at": 1.0}
    with any_catalog.write() as connection:  # a transaction that has inserted the training and not ended
        replace_rows(connection, trainings, [row])
        thread = threading.Thread(target=other)
        thread.start()
        assert started.wait(5)
        time.sleep(0.2)
    thread.join()
    assert store.find("in") == replace(TRAINING, model="other")
