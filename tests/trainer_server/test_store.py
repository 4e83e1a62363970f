from __future__ import annotations

import shutil
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import sqlalchemy as sa

from modyn.core.catalog import Catalog, replace_rows
from modyn.proto.trainer_server_pb2 import DownsamplingResult, TrainResult
from modyn.trainer_server import store as s
from modyn.trainer_server.plain import plain
from modyn.trainer_server.store import FinishedTraining, LineageRow, TrainingStore
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


def test_what_downsampling_did_is_kept(any_catalog: Catalog) -> None:
    store = TrainingStore(any_catalog)
    result = DownsamplingResult(
        trained="1f", auxiliary_models=["2e", "3d"], samples_offered=2**53 + 1, score_seconds=0.1, scores_reused=0
    )
    store.record(replace(TRAINING, downsampling=plain(result)))
    found = store.find("in")
    assert found is not None
    assert found.downsampling is not None
    assert DownsamplingResult(**found.downsampling) == result
    store.record(TRAINING)
    assert store.find("in") == TRAINING
    with any_catalog.read() as connection:  # nothing is NULL, not JSON's null
        assert connection.execute(sa.select(sa.func.count(trainings.c.downsampling))).scalar() == 0


ROW = LineageRow(
    "1", 0, "set", "ab1", "d", None, False, 1.0, "record", {"num_samples": 2**40, "epoch_losses": [0.1]}, ["x"]
)


def test_lineage_is_asked_by_model_by_pipeline_and_by_trigger(any_catalog: Catalog) -> None:
    store = TrainingStore(any_catalog)
    rows = [
        ROW,
        replace(ROW, pipeline_id="2", reused=True, created_at=2.0, numbers=None),
        replace(ROW, pipeline_id="2", trigger_index=1, model="ab2", created_at=3.0, trained=None),
        replace(ROW, pipeline_id="2", trigger_index=1, model="c_1", created_at=4.0),
    ]
    for row in reversed(rows):
        store.add_lineage(row)
    assert store.lineage() == rows
    assert store.lineage_of("ab1") == rows[:2]
    assert store.lineage_of_models_of("1") == rows[:2]
    assert store.lineage_of_models_of("2") == rows
    assert store.models_like("ab", 9) == ["ab1", "ab2"]
    assert store.models_like("ab", 1) == ["ab1"]
    assert store.models_like("_", 9) == store.models_like("%", 9) == []
    assert store.newest_model_of("2", 1) == "c_1"
    assert store.newest_model_of("2", 7) is None


def test_an_older_release_kept_the_numbers_elsewhere(any_catalog: Catalog, tmp_path: Path) -> None:
    versions = Path(s.__file__).parent / "migrations" / "versions"
    for script in versions.glob("000[12]_*.py"):
        shutil.copy(script, tmp_path)
    any_catalog.migrate("trainer_server", tmp_path)
    row = {**asdict(TRAINING), "epoch_losses": [0.2, 0.1], "created_at": 1.0}
    origin = {**asdict(replace(ROW, training_set="set", model="model", pipeline_id="p", trigger_index=3))}
    reused = {**origin, "pipeline_id": "q", "reused": True, "created_at": 2.0}
    old = sa.MetaData()
    with any_catalog.write() as connection:
        tables = [sa.Table(name, old, autoload_with=connection) for name in ("trainings", "training_lineage")]
        for table, values in zip((tables[0], tables[1], tables[1]), (row, origin, reused), strict=True):
            known = {name: value for name, value in values.items() if name in table.c}
            connection.execute(table.insert().values(known))
    store = TrainingStore(any_catalog)
    assert store.find("in") == replace(TRAINING, epoch_losses=(0.2, 0.1))
    first, second = store.lineage()
    assert (first.trained, second.trained, second.numbers) == (None, None, None)
    assert first.numbers is not None
    assert TrainResult(**first.numbers) == TrainResult(
        num_samples=2**40,
        samples_trained=2**41,
        batches=7,
        epochs=2,
        train_seconds=1.5,
        store_seconds=0.1,
        job_seconds=1.7,
        epoch_losses=[0.2, 0.1],
        final_loss=0.1,
    )
