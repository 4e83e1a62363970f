"""``models list`` and ``models show``: where models came from, and what they were really trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from typer.testing import CliRunner, Result

from modyn.client.cli import app
from modyn.client.connection import Target, storage_client
from modyn.client.models import summarise
from modyn.core.errors import InvalidInputError, NotFoundError
from modyn.core.keysets import KeySet
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSetHeader
from modyn.proto.trainer_server_pb2 import DownsamplingResult, LossPoint, Telemetry, TrainResult
from modyn.trainer_server.plain import plain
from modyn.trainer_server.store import LineageRow, TrainingStore
from modyn.trainer_server.trained import TrainedRecord
from tests.helpers.services import StorageAndSelector, append_numbers

WHOLE, NARROWED, OLD = "a1" + "0" * 38, "a2" + "0" * 38, "b" + "0" * 39


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with three models of samples 0 to 9: one of all of them, one of some, one of an old release."""
    folder = tmp_path_factory.mktemp("models")
    services = StorageAndSelector.start(folder / ".modyn")
    append_numbers(services.peers, "numbers", [0] * 10)
    header = TrainingSetHeader(
        pipeline_id="1", trigger_index=0, dataset="numbers", selection=to_value({"name": "NewDataStrategy"})
    )
    keys = KeySet.from_array(np.arange(10)).to_proto()
    messages = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=keys)]
    whole = services.peers.selector.CreateTrainingSet(iter(messages)).digest

    record = TrainedRecord()
    for epoch in ([1, 2], [2, 1], [2, 8, 9]):
        record.add(np.array(epoch), np.array(epoch, np.float32) * np.float32(0.5))
        record.end_epoch()
    record.add_auxiliary(np.array([5, 6]))
    trained = record.store(services.peers.selector, "numbers")
    result = TrainResult(num_samples=10, samples_trained=30, epochs=3, batches=6, final_loss=0.25, epoch_losses=[0.25])
    telemetry = Telemetry(forward_seconds=3.0, backward_seconds=1.0, samples_per_second=1234.5, wait_seconds=0.0)
    telemetry.losses.extend(LossPoint(batch=batch, loss=1 / batch) for batch in range(1, 101))
    result.telemetry.CopyFrom(telemetry)
    result.validation_losses.extend([0.5, 0.25, 0.375])
    result.best_epoch = 1
    narrowed = TrainResult(num_samples=10, samples_trained=7, epochs=3, batches=3, train_seconds=1.5)
    narrowed.downsampling.CopyFrom(
        DownsamplingResult(trained=trained, auxiliary_models=["c" * 40], samples_offered=30, samples_scored=20)
    )
    store = TrainingStore(services.catalog)
    store.add_lineage(LineageRow("1", 0, whole, WHOLE, "numbers", None, False, 100.0, None, plain(result)))
    store.add_lineage(LineageRow("2", 0, whole, WHOLE, "numbers", None, True, 150.0))
    store.add_lineage(LineageRow("1", 1, whole, NARROWED, "numbers", WHOLE, False, 200.0, trained, plain(narrowed)))
    store.add_lineage(LineageRow("1", 2, whole, OLD, "numbers", None, False, 300.0))
    services.close()
    return folder


def models(folder: Path, *arguments: str) -> Result:
    """Runs a command in this process."""
    return CliRunner().invoke(app, ["models", *arguments, "--state", str(folder / ".modyn")])


def said(folder: Path, *arguments: str) -> str:
    result = models(folder, *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_models_are_listed(folder: Path) -> None:
    shown = said(folder, "list")
    assert [line.split()[1] for line in shown.splitlines() if "numbers" in line] == [
        WHOLE[:12],
        NARROWED[:12],
        OLD[:12],
    ]
    assert "1:0, 2:0 (reused)" in shown
    of_second = json.loads(said(folder, "list", "--pipeline", "2", "--json"))
    assert [model["model"] for model in of_second] == [WHOLE]
    assert of_second[0]["uses"][1] == {"pipeline_id": "2", "trigger": 0, "reused": True}
    assert of_second[0]["training"]["samples_trained"] == 30
    assert of_second[0]["training"]["downsampling"] is None
    assert "no model was trained" in said(folder, "list", "--pipeline", "7")


def test_a_model_is_shown_with_what_it_was_really_trained_on(folder: Path) -> None:
    shown = said(folder, "show", "a2")
    assert NARROWED in shown
    for row in (
        ("auxiliary models only", "2", "2", "1", "1", "5, 6"),
        ("0", "2", "1.5", "0.5", "1", "1, 2"),
        ("2", "3", "9.5", "1", "4.5", "2, 8, 9"),
    ):
        assert any(tuple(cell.strip() for cell in line.split("│")[1:-1]) == row for line in shown.splitlines()), row
    assert "20 samples" in shown
    document = json.loads(said(folder, "show", "1:1", "--json"))
    assert document["model"] == NARROWED
    assert document["training"]["downsampling"]["auxiliary_models"] == ["c" * 40]
    assert document["training"]["downsampling"]["scores"] is None
    assert [epoch["epoch"] for epoch in document["samples"]] == [-1, 0, 2]
    assert document["samples"][2] == {
        "epoch": 2,
        "num_samples": 3,
        "weight_sum": 9.5,
        "weight_min": 1.0,
        "weight_max": 4.5,
        "first_keys": [2, 8, 9],
    }


def test_without_downsampling_it_is_the_training_set(folder: Path) -> None:
    shown = said(folder, "show", WHOLE)
    assert "whole training set in every epoch" in shown
    assert "0, 1, 2, 3, 4, …" in shown
    assert "numbers were not kept" in said(folder, "show", "b")


@pytest.mark.parametrize("name", ["keys.parquet", "keys.csv"])
def test_the_whole_record_is_written(folder: Path, name: str) -> None:
    said(folder, "show", "a2", "--keys", str(folder / name))
    table = parquet.read_table(folder / name) if name.endswith("parquet") else csv.read_csv(folder / name)
    assert table.to_pydict() == {
        "epoch": [-1, -1, 0, 0, 2, 2, 2],
        "key": [5, 6, 1, 2, 2, 8, 9],
        "weight": [1.0, 1.0, 0.5, 1.0, 1.0, 4.0, 4.5],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "several begin like that"),
        (["f00"], "there is no model 'f00'"),
        (["1:9"], "trigger 9 of pipeline 1 has no model"),
        (["1:x"], "expected a digest or how it begins"),
        ([":1"], "expected a digest or how it begins"),
        (["a1", "--keys", "keys.txt"], "expected .parquet or .csv"),
    ],
)
def test_what_cannot_be_shown(folder: Path, arguments: list[str], message: str) -> None:
    result = models(folder, "show", *arguments)
    assert message in result.stderr
    assert result.exit_code == 2


def test_in_python(folder: Path) -> None:
    with storage_client(Target(None, folder / ".modyn", None), what="a test", lineage=True) as client:
        assert [model.model for model in client.models()] == [WHOLE, NARROWED, OLD]
        assert [model.model for model in client.models("2")] == [WHOLE]
        assert client.model("2:0") == client.model(WHOLE)
        samples = client.trained_samples("2:0")
        assert samples.schema.types == [pa.int32(), pa.int64(), pa.float32()]
        assert samples["key"].to_pylist() == list(range(10))
        with pytest.raises(NotFoundError):
            client.model("7:0")
        with pytest.raises(InvalidInputError):
            client.trained_samples("a")
        found = {model.model: model.keys.tolist() for model in client.models_trained_on("numbers", [2, 3])}
        assert found == {WHOLE: [2, 3], NARROWED: [2], OLD: [2, 3]}


def test_where_the_time_went_and_how_the_loss_fell(folder: Path) -> None:
    shown = " ".join(said(folder, "show", WHOLE).replace("│", " ").split())
    assert "of its time forward 75%, backward 25%; 1,234 samples/s" in shown
    assert "validation loss 0.2500 at the lowest, the best after epoch 1; 0.3750 at the end" in shown
    assert "loss by batch 1.0000 (1) → " in shown
    assert "→ 0.0100 (100)" in shown
    training = json.loads(said(folder, "show", WHOLE, "--json"))["training"]
    assert (training["best_epoch"], training["validation_losses"]) == (1, [0.5, 0.25, 0.375])
    assert training["telemetry"]["forward_seconds"] == 3.0
    assert training["telemetry"]["gpu_memory_bytes"] is None
    assert training["telemetry"]["losses"][-1] == [100, 0.01]
    assert json.loads(said(folder, "show", "a2", "--json"))["training"]["telemetry"] is None


def test_a_record_of_nothing_has_no_epochs() -> None:
    assert summarise(pa.Table.from_batches(list(TrainedRecord().batches()))) == []
