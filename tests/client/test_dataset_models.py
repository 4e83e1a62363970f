"""Commands that change samples say which models were trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from modyn.client import Client
from modyn.client.connection import Target, storage_client
from modyn.client.server import LINEAGE_SERVICES, Server
from modyn.core.errors import NotAvailableError
from modyn.core.keysets import KeyRange
from modyn.core.peers import Addresses
from modyn.core.state import StateDirectory
from tests.client.processes import modyn

PIPELINE = """\
pipeline: {name: demo}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 2, hidden: [8], num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 100}
training: {batch_size: 32, use_previous_model: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of the samples 0 to 99 and 100 to 199 of dataset ``d``."""
    folder = tmp_path_factory.mktemp("models")
    x0, x1 = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)
    rows = {"timestamp": np.arange(200), "label": np.zeros(200, np.int64), "x0": x0, "x1": x1}
    parquet.write_table(pa.table(rows), folder / "rows.parquet")
    (folder / "pipeline.yaml").write_text(PIPELINE)
    commands = ["datasets register d", "datasets append d rows.parquet", "run pipeline.yaml"]
    for arguments in map(str.split, commands):
        result = modyn(*arguments, cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder


def test_models_of_corrected_and_deleted_samples_are_named(folder: Path) -> None:
    (folder / "labels.csv").write_text("key,label\n150,1\n151,1\n7,0\n")
    said = modyn("datasets", "set-labels", "d", "labels.csv", cwd=folder)
    assert said.returncode == 0, said.stderr
    assert "3 labels, 2 corrected\nmodels trained on the old labels" in said.stdout
    assert "pipeline 1 trigger 1" in said.stdout  # key 7 has the label that it had
    assert "trigger 0" not in said.stdout

    said = modyn("datasets", "delete-samples", "d", "--keys", "7,150", "--yes", cwd=folder)
    assert said.returncode == 0, said.stderr
    for trigger in (0, 1):
        assert f"pipeline 1 trigger {trigger}" in said.stdout
    again = modyn("datasets", "delete-samples", "d", "--keys", "7", "--yes", cwd=folder)
    assert "pipeline 1 trigger 0" in again.stdout  # the report can be had again
    assert "trigger 1" not in again.stdout


def test_services_in_processes_of_their_own_are_asked_too(folder: Path) -> None:
    state = StateDirectory(folder / ".modyn")
    options = {"address": "127.0.0.1:0", "allow_user_code": False, "what": "a test"}
    with Server(state, services=("storage",), **options) as storage:  # type: ignore[arg-type]
        with Client(storage.address) as client, pytest.raises(NotAvailableError):
            client.models_trained_on("d", [KeyRange(0, 10)])
        refused = modyn("datasets", "delete-samples", "d", "--keys", "9", "--yes", cwd=folder)
        assert (refused.returncode, "not known here" in refused.stdout) == (0, True), refused.stderr
        peers = Addresses(storage.address, "", "", "", "")
        others = Server(
            state,
            services=LINEAGE_SERVICES[1:],
            peers=peers,
            runs_jobs=False,
            **options,  # type: ignore[arg-type]
        )
        with others, storage_client(Target(None, state.path, None), what="a test") as client:
            assert len(client.models_trained_on("d", [KeyRange(0, 10)])) == 1
