"""Before anything is trained, one batch of real data goes through everything."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from modyn.client import Client, LiveOptions
from modyn.client.cli import app
from modyn.core.errors import InvalidInputError
from modyn.proto.supervisor_pb2 import CheckedStep, Pipeline
from tests.helpers.streams import drifting_table, pipeline_tree, project, write_pipeline

WIDE = {"id": "MLP", "config": {"in_features": 9, "hidden": [4], "num_classes": 2}}

FITS_NOT = r"layer '.*' \(Linear\) expects inputs of 9 features, got float32 \[16, 4\]"

ROC_OF_THREE: dict[str, Any] = {
    "handlers": [{"name": "h", "models": "matrix", "strategy": {"type": "SlicingEvalStrategy", "eval_every": "1d"}}],
    "datasets": [{"dataset_id": "metric", "metrics": [{"name": "RocAuc"}], "batch_size": 16}],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


def data(name: str, **changes: Any) -> dict[str, Any]:
    return {**pipeline_tree()["data"], "dataset_id": name, **changes}


def test_what_is_found_is_told_step_by_step(client: Client, tmp_path: Path) -> None:
    steps = client.check(project(tmp_path, data=data("fits")))
    assert [step.what for step in steps] == ["data", "training", "evaluation on fits"]
    data_step, training, evaluation = (step.found for step in steps)
    assert data_step == "fits: 480 samples"
    assert training.startswith("float32 [16, 4] → float32 [16, 2]; labels int64 [16], loss ")
    assert training.endswith(" parameters")
    assert evaluation.startswith("Accuracy ")
    assert not client.models()
    assert not client.pipelines()


def test_a_pipeline_that_does_not_fit_trains_nothing(client: Client, tmp_path: Path) -> None:
    pipeline = project(tmp_path, data=data("wide"), model=WIDE)
    seen: list[CheckedStep] = []
    with pytest.raises(InvalidInputError, match="training: .*" + FITS_NOT):
        client.check(pipeline, on_step=seen.append)
    assert [step.what for step in seen] == ["data", "training"]
    ended = client.wait(client.submit(pipeline))
    assert ended.status == Pipeline.FAILED
    assert ended.error.input_error
    with pytest.raises(InvalidInputError, match=FITS_NOT):
        raise InvalidInputError(ended.error.message)
    assert not client.report(ended.id).triggers
    assert not client.models(ended.id)


def test_a_metric_that_does_not_fit_stops_a_pipeline_before_its_first_training(client: Client, tmp_path: Path) -> None:
    table = drifting_table()
    three = table.set_column(1, "label", pa.array(np.arange(table.num_rows) % 3))
    model = {"id": "MLP", "config": {"in_features": 4, "hidden": [4], "num_classes": 3}}
    pipeline = project(tmp_path, three, data=data("metric"), model=model, evaluation=ROC_OF_THREE)
    ended = client.wait(client.submit(pipeline))
    assert ended.status == Pipeline.FAILED
    assert "metric RocAuc" in ended.error.message
    assert not client.models(ended.id)


def test_files_that_cannot_be_read_are_told(client: Client, tmp_path: Path) -> None:
    """All of them are an error, as when the pipeline runs; some are a notice."""
    source = {**pipeline_tree()["data"]["source"], "label": "lable"}
    with pytest.raises(
        InvalidInputError, match=r"data.dataset_id: .*no samples; files set aside:\n .*'lable' is missing"
    ):
        client.check(project(tmp_path, data=data("misspelt", source=source)))
    pipeline = project(tmp_path, data=data("damaged"))
    (tmp_path / "data" / "broken.parquet").write_bytes(b"PAR1")
    first = client.check(pipeline)[0]
    assert first.found == "damaged: 480 samples"
    assert "broken.parquet: " in first.notices[0]


def test_a_live_pipeline_without_data_is_checked_at_its_first_trigger(client: Client, tmp_path: Path) -> None:
    client.register_dataset("live")
    section = {"dataset_id": "live"}
    trigger = {"id": "DataAmountTrigger", "num_samples": 100}
    pipeline = write_pipeline(tmp_path, data=section, model=WIDE, trigger=trigger, evaluation=None)
    pipeline_id = client.submit(pipeline, LiveOptions(start_key=0))
    client.append("live", "all", drifting_table())
    ended = client.wait(pipeline_id)
    assert ended.status == Pipeline.FAILED
    with pytest.raises(InvalidInputError, match=FITS_NOT):
        raise InvalidInputError(ended.error.message)
    assert not client.models(pipeline_id)


def test_stopping_a_pipeline_ends_its_checks(tmp_path: Path) -> None:
    """One that never ends would keep its processors from all trainings to come."""
    (tmp_path / "parser_that_hangs.py").write_text("def parse(columns):\n    while True:\n        pass\n")
    sections: dict[str, Any] = {"training": {"batch_size": 16, "threads": os.cpu_count()}, "evaluation": None}
    hanging = project(tmp_path, data=data("hangs", parser="parser_that_hangs:parse"), **sections)
    state = tmp_path / "state"
    with Client.embedded(state) as client:
        pipeline_id = client.submit(hanging)
        deadline = time.monotonic() + 60
        while not list((state / "jobs" / pipeline_id).glob("check-*.log")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.stop(pipeline_id)
        assert client.wait(pipeline_id).status == Pipeline.STOPPED
        fine = write_pipeline(tmp_path, data=data("hangs"), **sections)
        assert len(client.check(fine)) == 2


def test_validate_deep(tmp_path: Path, client: Client) -> None:
    """On the command line: a table of what was found, and exit status 2 for what does not fit."""
    address = client._peers.addresses.supervisor
    folders = {name: tmp_path / name for name in ("good", "bad")}
    for folder in folders.values():
        folder.mkdir()
    source = {**pipeline_tree()["data"]["source"]}

    def validate(name: str, **changes: Any) -> Any:
        section = {"dataset_id": f"deep-{name}", "source": {**source, "path": str(folders[name] / "data")}}
        pipeline = project(folders[name], data=section, **changes)
        return CliRunner().invoke(app, ["validate", str(pipeline), "--deep", "--server", address])

    good = validate("good")
    assert good.exit_code == 0, good.stderr
    assert "float32 [16, 4] → float32 [16, 2]" in good.stdout
    assert good.stdout.rstrip().endswith(": valid")
    bad = validate("bad", model=WIDE)
    assert bad.exit_code == 2
    assert "failed" in bad.stdout
    assert "expects inputs of 9 features" in bad.stderr
