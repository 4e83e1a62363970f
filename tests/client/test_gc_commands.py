"""``models delete``, ``gc``, and what ``models list`` and ``models show`` say of models that are stored or gone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner, Result

from modyn.client.cli import app
from modyn.proto.trainer_server_pb2 import TrainResult
from modyn.storage.reader import store_model
from modyn.trainer_server.plain import plain
from modyn.trainer_server.store import LineageRow, TrainingStore
from tests.helpers.services import StorageAndSelector, append_numbers


def weights(step: int) -> bytes:
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    return save({"w": values + np.float32(step) * np.float32(1e-6)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state directory with three models of pipeline 1, the second a difference from the first, and one of nobody."""
    services = StorageAndSelector.start(tmp_path / ".modyn")
    append_numbers(services.peers, "numbers", [0] * 4)
    store = TrainingStore(services.catalog)
    parent = None
    for index in range(2):
        parent = store_model(services.peers.storage, weights(index), parent)
        result = plain(TrainResult(num_samples=4, samples_trained=4, epochs=1))
        store.add_lineage(LineageRow("1", index, "f" * 40, parent, "numbers", None, False, 1.0 + index, None, result))
    store.add_lineage(LineageRow("1", 2, "f" * 40, "e" * 40, "numbers", None, False, 5.0))
    store_model(services.peers.storage, b"never recorded")
    services.close()
    return tmp_path


def modyn(folder: Path, *arguments: str, answer: str | None = None) -> Result:
    """Runs a command in this process."""
    return CliRunner().invoke(app, [*arguments, "--state", str(folder / ".modyn")], input=answer)


def said(folder: Path, *arguments: str) -> str:
    result = modyn(folder, *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_sizes_differences_and_removed_weights_are_shown(folder: Path) -> None:
    listed = json.loads(said(folder, "models", "list", "--json"))
    first, second = listed[0]["model"], listed[1]["model"]
    assert listed[0]["stored"]["chain_position"] == 0
    assert listed[0]["stored"]["delta_of"] is None
    assert listed[1]["stored"]["delta_of"] == first
    assert listed[1]["stored"]["stored_bytes"] < listed[1]["stored"]["num_bytes"] == len(weights(1))
    assert listed[2]["stored"] is None
    lines = [line for line in said(folder, "models", "list").splitlines() if "numbers" in line]
    assert ["(difference)" in line for line in lines] == [False, True, False]
    assert ["removed" in line for line in lines] == [False, False, True]
    assert second[:12] in lines[1]


@pytest.mark.parametrize("reference", ["1:1", "1@1"])
def test_references_to_a_trigger(folder: Path, reference: str) -> None:
    done = said(folder, "models", "delete", reference, "--yes")
    assert "freed" in done
    listed = json.loads(said(folder, "models", "list", "--json"))
    assert [model["stored"] is None for model in listed] == [False, True, True]


def test_the_latest_model_is_that_of_the_last_trigger(folder: Path) -> None:
    result = modyn(folder, "models", "delete", "1@latest", "-y")
    assert result.exit_code == 2
    assert f"no model with digest {'e' * 40}" in result.stderr


def test_deleting_asks_and_keeps_what_differences_need(folder: Path) -> None:
    first, second = (model["model"] for model in json.loads(said(folder, "models", "list", "--json"))[:2])
    assert modyn(folder, "models", "delete", "1:0", answer="n\n").exit_code == 1
    refused = modyn(folder, "models", "delete", "1:0", "--yes")
    assert refused.exit_code == 1
    assert second in refused.stderr
    assert "--rewrite" in refused.stderr
    done = said(folder, "models", "delete", first, "--yes", "--rewrite")
    assert f"{second} is stored whole now" in done
    stored = [model["stored"] for model in json.loads(said(folder, "models", "list", "--json"))]
    assert stored[0] is None
    assert stored[1]["delta_of"] is None


def test_both_at_once_go_in_the_right_order(folder: Path) -> None:
    assert said(folder, "models", "delete", "1:0", "1:1", "--yes").count("freed") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "delete", "1@x", "-y"], "expected a digest or how it begins"),
        (["models", "delete", "@latest", "-y"], "expected a digest or how it begins"),
        (["models", "delete", "9@latest", "-y"], "pipeline 9 has no model"),
        (["models", "delete", "00", "-y"], "there is no model '00'"),
        (["gc", "--only", "samples"], "expected one of models, training-sets, outcomes, checkpoints"),
        (["gc", "--older-than", "soon"], "expected a duration such as"),
    ],
)
def test_what_cannot_be(folder: Path, arguments: list[str], message: str) -> None:
    result = modyn(folder, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_gc_with_another_catalog_removes_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / ".modyn").rglob("*.safetensors")}
    other = f"sqlite:///{folder / 'other.db'}"
    for only in ([], ["--only", "training-sets"], ["--only", "outcomes"], ["--dry-run"]):
        refused = modyn(folder, "gc", "--older-than", "0s", "--catalog", other, *only)
        assert refused.exit_code == 1
        assert "belongs to another catalog" in refused.stderr
    assert before
    assert all(path.stat().st_mtime_ns == modified for path, modified in before.items())


def test_gc_says_what_it_would_remove_and_removes_it(folder: Path) -> None:
    assert "nothing to remove" in said(folder, "gc")
    planned = json.loads(said(folder, "gc", "--dry-run", "--older-than", "0s", "--json"))
    assert planned["dry_run"]
    assert [(one["kind"], one["num_bytes"]) for one in planned["garbage"]] == [("model", len(b"never recorded"))]
    assert planned["num_bytes"] == len(b"never recorded")
    assert "14 B would be freed (model: 1)" in said(folder, "gc", "--dry-run", "--older-than", "0s")
    assert "nothing to remove" in said(folder, "gc", "--older-than", "0s", "--only", "outcomes")
    assert "14 B freed (model: 1)" in said(folder, "gc", "--older-than", "0s")
    assert "nothing to remove" in said(folder, "gc", "--older-than", "0s")
