"""Bad input and accidents: one clear message, nothing half-written, and the next run works."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.client import Client, ReplayOptions
from modyn.core.errors import InvalidInputError, NotFoundError
from modyn.proto.supervisor_pb2 import Pipeline
from tests.helpers.streams import DAY, START, drifting_table, pipeline_tree, project, write_pipeline


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


def failure(client: Client, pipeline: Path, **options: Any) -> tuple[str, bool]:
    """Message of a pipeline that is expected to fail, and whether the input is to blame."""
    pipeline_id = client.submit(pipeline, **options)
    ended = client.wait(pipeline_id)
    assert ended.status == Pipeline.FAILED
    assert "Traceback" not in ended.error.message or "last lines of its output" in ended.error.message
    client.report(pipeline_id)  # a failed pipeline has a report too
    return ended.error.message, ended.error.input_error


def data(name: str, **changes: Any) -> dict[str, Any]:
    """The data section under a dataset name of its own."""
    return {**pipeline_tree()["data"], "dataset_id": name, **changes}


def test_all_problems_of_a_pipeline_are_reported_before_anything_starts(client: Client, tmp_path: Path) -> None:
    pipeline = project(
        tmp_path,
        trigger={"id": "TimeTrigger", "evry": "3d"},
        training={"epochs_per_trigger": "many", "batchsize": 3},
    )
    before = len(client.pipelines())
    with pytest.raises(InvalidInputError) as caught:
        client.submit(pipeline)
    for part in ("trigger.evry", "every", "training.epochs_per_trigger", "'many'", "training.batchsize", "batch_size"):
        assert part in caught.value.message
    assert len(client.pipelines()) == before


def test_missing_dataset(client: Client, tmp_path: Path) -> None:
    message, input_error = failure(client, write_pipeline(tmp_path, data={"dataset_id": "nowhere"}))
    assert "data.dataset_id" in message
    assert "'nowhere'" in message
    assert input_error


def test_missing_source_folder(client: Client, tmp_path: Path) -> None:
    message, input_error = failure(client, write_pipeline(tmp_path, data=data("no-folder")))
    assert str(tmp_path / "data") in message
    assert input_error


def test_no_samples_in_the_interval(client: Client, tmp_path: Path) -> None:
    options = ReplayOptions(start=START + 400 * DAY)
    message, input_error = failure(client, project(tmp_path, data=data("interval")), mode=options)
    assert "no samples in the replayed interval" in message
    assert str(START) in message  # says what there is
    assert input_error


def test_dataset_without_readable_files(client: Client, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.parquet").write_bytes(b"PAR1 this is no parquet file")
    message, input_error = failure(client, write_pipeline(tmp_path, data=data("unreadable")))
    assert "bad.parquet" in message
    assert input_error


def test_a_truncated_file_is_set_aside_and_the_rest_is_used(client: Client, tmp_path: Path) -> None:
    pipeline = project(tmp_path, data=data("truncated"))
    victim = tmp_path / "data" / "day-004.parquet"
    victim.write_bytes(victim.read_bytes()[:100])
    pipeline_id = client.submit(pipeline)
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    assert client.report(pipeline_id).run.samples_seen == 11 * 40
    [bad] = client.dataset("truncated").quarantined
    assert bad.path.endswith("day-004.parquet")
    assert bad.reason


def test_label_outside_the_classes_of_the_model(client: Client, tmp_path: Path) -> None:
    table = drifting_table()
    labels = table["label"].to_numpy().copy()
    labels[200] = 7
    table = table.set_column(1, "label", pa.array(labels))
    message, input_error = failure(client, project(tmp_path, table, data=data("labels")))
    assert "7" in message
    assert "2" in message
    assert input_error


def test_a_parser_that_raises(client: Client, tmp_path: Path) -> None:
    (tmp_path / "my_parser.py").write_text("def parse(columns):\n    raise ValueError('what a mess')\n")
    message, _ = failure(client, project(tmp_path, data=data("parser", parser="my_parser:parse")))
    assert "my_parser:parse" in message
    assert "what a mess" in message


def test_a_model_that_does_not_fit_the_data(client: Client, tmp_path: Path) -> None:
    model = {"id": "MLP", "config": {"in_features": 9, "hidden": [4], "num_classes": 2}}
    message, _ = failure(client, project(tmp_path, data=data("shape"), model=model))
    assert "9" in message
    assert "4" in message


def test_an_output_that_does_not_fit_the_loss(client: Client, tmp_path: Path) -> None:
    training = {"optimization_criterion": {"name": "BCEWithLogitsLoss"}, "threads": 1}
    message, _ = failure(client, project(tmp_path, data=data("loss"), training=training))
    assert "BCEWithLogitsLoss" in message


def test_an_unknown_optimizer(client: Client, tmp_path: Path) -> None:
    training = {"optimizers": [{"name": "default", "algorithm": "AdamX"}]}
    message, input_error = failure(client, project(tmp_path, data=data("optimizer"), training=training))
    assert "AdamX" in message
    assert input_error


def test_another_source_for_a_known_dataset(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = client.submit(project(tmp_path / "a", data=data("twice")))
    assert client.wait(first).status == Pipeline.COMPLETED
    message, input_error = failure(client, project(tmp_path / "b", data=data("twice")))
    assert "'twice'" in message
    assert input_error


def test_unknown_pipeline_ids(client: Client) -> None:
    with pytest.raises(NotFoundError, match="99999"):
        client.report("99999")
    with pytest.raises(InvalidInputError, match="'abc'"):
        client.status("abc")


def _jobs_of_this_process() -> list[int]:
    """Forked jobs, and those that are kept ready: grandchildren of the fork server's parent, which is us."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], check=True, capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    servers = {row[0] for row in rows if int(row[1]) == os.getpid() and "modyn.core.forkserver" in row[2]}
    return [int(row[0]) for row in rows if row[1] in servers]


def _wait_for_training(client: Client, pipeline_id: str) -> None:
    """Returns once batches are being trained."""
    for event in client.watch(pipeline_id):
        if event.WhichOneof("kind") == "training" and event.training.samples:
            return
        assert event.pipeline.status != Pipeline.FAILED, event.pipeline.error.message


def test_a_training_job_killed_from_outside(client: Client, tmp_path: Path) -> None:
    training = {"epochs_per_trigger": 100_000, "batch_size": 16, "threads": 1}
    pipeline_id = client.submit(project(tmp_path, data=data("killed"), training=training))
    _wait_for_training(client, pipeline_id)
    for job in _jobs_of_this_process():
        os.kill(job, signal.SIGKILL)
    ended = client.wait(pipeline_id)
    assert ended.status == Pipeline.FAILED
    assert "SIGKILL" in ended.error.message
    assert not ended.error.input_error
    [trigger] = client.report(pipeline_id).triggers
    assert (trigger.model, trigger.samples) == (None, 120)
    assert trigger.error == ended.error.message
    training["epochs_per_trigger"] = 1
    again = client.submit(write_pipeline(tmp_path, data=data("killed"), training=training))
    assert client.wait(again).status == Pipeline.COMPLETED


def test_stopping_in_the_middle_of_a_training(client: Client, tmp_path: Path) -> None:
    training = {"epochs_per_trigger": 100_000, "batch_size": 16, "threads": 1}
    pipeline_id = client.submit(project(tmp_path, data=data("stopped"), training=training))
    _wait_for_training(client, pipeline_id)
    assert client.stop(pipeline_id).status == Pipeline.STOPPED
    report = client.report(pipeline_id)
    assert report.pipeline.status == "stopped"
    assert report.triggers == []


def test_unlabelled_samples_are_left_out_and_counted(client: Client, tmp_path: Path) -> None:
    table = drifting_table()
    labels = table["label"].to_numpy()
    missing = np.arange(len(labels)) % 10 == 0
    table = table.set_column(1, "label", pa.array(labels, mask=missing))
    pipeline_id = client.submit(project(tmp_path, table, data=data("unlabelled")))
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    report = client.report(pipeline_id)
    assert [(t.new_samples, t.samples, t.unlabelled) for t in report.triggers] == [(120, 108, 12)] * 3
    assert all((window.samples, window.unlabelled) == (36, 4) for window in report.windows)
