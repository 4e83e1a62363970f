"""Models as modules and as folders: what was trained is what comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from modyn.client import Client, load_model
from modyn.client.cli import app
from modyn.client.export import DESCRIPTION, _receive, check_target
from modyn.core.errors import AlreadyExistsError, CorruptDataError, InvalidInputError
from modyn.models import exported
from modyn.models.exported import load_decoder, load_example
from modyn.proto.trainer_server_pb2 import ExportedPiece
from tests.helpers.streams import pipeline_tree, project

NET = """
import torch
from layers_of_mine.blocks import block

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = block(4, width)
        self.head = torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.body(x))

def parse(columns):
    import numpy as np
    return 2 * np.stack([columns[f"x{i}"].to_numpy() for i in range(4)], axis=1)
"""

BLOCKS = """
import torch

def block(inputs, outputs):
    return torch.nn.Sequential(torch.nn.Linear(inputs, outputs), torch.nn.BatchNorm1d(outputs), torch.nn.ReLU())
"""

LOADS = """
import sys
from pathlib import Path
from modyn.models.exported import check, load, load_example
folder = Path(sys.argv[1])
model = load(folder)
check(folder, model)
assert not model.training
assert "grpc" not in sys.modules
example = load_example(folder)
print(model(example.inputs).tolist() == example.outputs["output"].tolist())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    """A client whose pipeline 1 trained a model of the user's own, and the folder of its code."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net_of_mine.py").write_text(NET)
    (folder / "layers_of_mine").mkdir()
    (folder / "layers_of_mine" / "__init__.py").write_text("")
    (folder / "layers_of_mine" / "blocks.py").write_text(BLOCKS)
    (folder / "not_imported.py").write_text("raise RuntimeError\n")
    data = {**pipeline_tree()["data"], "parser": "net_of_mine:parse"}
    model = {"id": "net_of_mine:Net", "config": {"width": 6}}
    pipeline = project(folder, data=data, model=model, evaluation=None)
    with Client.embedded(folder / ".modyn") as client:
        ended = client.wait(client.submit(pipeline, maximum_triggers=2))
        assert not ended.error.message
        yield client, folder


def test_a_folder_loads_where_neither_server_nor_code_are(
    trained: tuple[Client, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, project_folder = trained
    done = client.download_model("1@0", tmp_path / "model")
    assert set(done.files) == {
        "README.md",
        "code/layers_of_mine/__init__.py",
        "code/layers_of_mine/blocks.py",
        "code/net_of_mine.py",
        "example.arrow",
        "example.safetensors",
        "load_model.py",
        "model.safetensors",
        "modyn-model.json",
    }
    away = project_folder.rename(project_folder.with_name("away"))
    try:
        command = [sys.executable, "-c", LOADS, str(tmp_path / "model")]
        answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    finally:
        away.rename(project_folder)
    assert answer.stderr == ""
    assert answer.stdout == "True\n"

    described = json.loads((tmp_path / "model" / "modyn-model.json").read_text())
    assert described["digest"] == client.model("1@0").model
    assert described["about"]["pipeline"] == "drifting"
    assert described["about"]["trigger"] == 0
    assert described["signature"]["inputs"] == [{"name": "input", "dtype": "float32", "shape": [None, 4]}]
    assert described["signature"]["outputs"] == [{"name": "output", "dtype": "float32", "shape": [None, 2]}]
    # The row in it, sent through its parser, gives the recorded inputs.
    monkeypatch.syspath_prepend(str(project_folder))
    with pa.ipc.open_file(tmp_path / "model" / "example.arrow") as reader:
        row = reader.get_batch(0)
    columns = {name: row.column(name) for name in row.schema.names}
    shutil.rmtree(tmp_path / "model" / "code")  # this process has its own view of modules: those of the project
    inputs = load_decoder(tmp_path / "model").inputs(columns)
    assert torch.equal(inputs, load_example(tmp_path / "model").inputs)  # type: ignore[arg-type]


def test_a_loaded_model_answers_as_the_exported_one(trained: tuple[Client, Path], tmp_path: Path) -> None:
    client, project_folder = trained
    client.download_model("1@latest", tmp_path / "model")
    example = load_example(tmp_path / "model")
    for model in (client.load_model("1@latest"), load_model("1@latest", state=project_folder / ".modyn")):
        assert not model.training
        torch.testing.assert_close(model(example.inputs), example.outputs["output"])


def test_models_of_no_known_pipeline_need_their_section(trained: tuple[Client, Path]) -> None:
    from modyn.client.loading import load_module

    client, project_folder = trained
    found = client.model("1@0")
    found.uses[0].pipeline_id = "77"
    with pytest.raises(InvalidInputError, match="give its model section as model="):
        load_module(client._peers, found, None, None)
    section = {"id": "net_of_mine:Net", "config": {"width": 6}}
    assert not load_module(client._peers, found, section, project_folder).training


def test_the_command_and_folders_that_are_there(trained: tuple[Client, Path], tmp_path: Path) -> None:
    client, _ = trained

    def download(*more: str) -> Any:
        where = ["--output", str(tmp_path / "out"), "--server", client._peers.addresses.supervisor]
        return CliRunner().invoke(app, ["models", "download", "1@0", *where, *more])

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    for options in ([], ["--force"]):
        refused = download(*options)
        assert refused.exit_code == 2
        assert "no downloaded model" in refused.stderr
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "out" / "mine.txt").rename(tmp_path / "out" / DESCRIPTION)  # as if it had been downloaded
    assert "--force" in download().stderr
    done = download("--force")
    assert done.exit_code == 0, done.stderr
    assert "9 files" in done.stdout
    assert (tmp_path / "out" / exported.DESCRIPTION).read_text() != "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing temporary is left
    with pytest.raises(AlreadyExistsError):
        check_target(tmp_path / "out", force=False)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_no_file_leaves_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptDataError, match="lies outside"):
        _receive([ExportedPiece(path=name, data=b"x")], tmp_path)
    assert not list(tmp_path.iterdir())
