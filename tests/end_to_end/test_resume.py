"""Nothing is trained twice: not what a killed server had trained, and not what has not changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.client import Client
from modyn.core.report import Report, without_volatile
from modyn.proto.supervisor_pb2 import Pipeline
from tests.helpers.streams import START, drifting_table, project


def command(folder: Path, state: str) -> list[str]:
    run = [sys.executable, "-m", "modyn.client.cli", "run", str(folder / "pipeline.yaml")]
    return [*run, "--state", str(folder / state), "--output", str(folder / f"{state}-out")]


def run(folder: Path, state: str) -> tuple[Report, str]:
    done = subprocess.run(command(folder, state), check=True, capture_output=True, text=True, timeout=120)
    return Report.model_validate(json.loads((folder / f"{state}-out" / "report.json").read_text())), done.stderr


def test_a_killed_server_leaves_its_training_to_the_next_run(tmp_path: Path) -> None:
    training = {"epochs_per_trigger": 40, "batch_size": 4, "threads": 1, "checkpointing": {"interval": 100}}
    project(tmp_path, drifting_table(days=6), training=training)
    process = subprocess.Popen(
        command(tmp_path, "state"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 60
    checkpoints = tmp_path / "state" / "checkpoints"
    while not list(checkpoints.glob("*/0*.checkpoint")):
        assert process.poll() is None, "it ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(checkpoints.glob("*/0*.checkpoint"))
    report, output = run(tmp_path, "state")
    assert "its training goes on after batch" in " ".join(output.split())
    assert not list(checkpoints.iterdir())
    undisturbed, _ = run(tmp_path, "fresh")
    assert without_volatile(report) == without_volatile(undisturbed)


def test_a_stream_with_new_classes(tmp_path: Path) -> None:
    table = drifting_table(days=10)
    days = (table["timestamp"].to_numpy() - START) // 86_400
    labels = table["label"].to_numpy() + 2 * ((days >= 3) & (np.arange(len(days)) % 2 == 0))
    table = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    training = {"epochs_per_trigger": 2, "threads": 1, "new_classes": "grow", "optimizer_state": "keep"}
    pipeline = project(tmp_path, table, training=training)
    with Client.embedded(tmp_path / "state") as client:
        first = client.wait(client.submit(pipeline))
        assert first.status == Pipeline.COMPLETED, first.error.message
        report = client.report(first.id)
        again = client.wait(client.submit(pipeline))
        repeated = client.report(again.id)
    assert report.cost.trainings_reused == 0
    assert repeated.cost.trainings_reused == len(report.triggers) == 3
    assert without_volatile(report) == without_volatile(repeated)
