"""``modyn-client run`` killed at any moment: nothing is left running, and the next run continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modyn.client import Client
from modyn.core.report import Report, without_volatile
from modyn.proto.supervisor_pb2 import Pipeline
from tests.conftest import processes_of_session
from tests.helpers.streams import project

TRAINING = {"epochs_per_trigger": 60, "batch_size": 8, "threads": 1}


def command(folder: Path, state: str, output: str) -> list[str]:
    run = [sys.executable, "-m", "modyn.client.cli", "run", str(folder / "pipeline.yaml")]
    return [*run, "--state", str(folder / state), "--output", str(folder / output)]


def run(folder: Path, state: str, output: str) -> Report:
    subprocess.run(command(folder, state, output), check=True, capture_output=True, timeout=120)
    return Report.model_validate(json.loads((folder / output / "report.json").read_text()))


def forkserver_pids(parent: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], check=True, capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and "modyn.core.forkserver" in args]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow  # a run that is killed in the middle of a training is in test_resume.py
@pytest.mark.parametrize("triggers_before_the_kill", [1, 2])
def test_killed_and_run_again(tmp_path: Path, triggers_before_the_kill: int) -> None:
    project(tmp_path, training=TRAINING)
    process = subprocess.Popen(
        command(tmp_path, "state", "out"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    with process.stdout as lines:
        trained = 0
        for line in lines:
            trained += ": trained" in line
            if trained == triggers_before_the_kill:
                break
        assert trained == triggers_before_the_kill
        time.sleep(0.05)  # into the next training
        children = forkserver_pids(process.pid)
        children += [pid for child in children for pid in processes_of_session(child)]
        assert children
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while alive(children):
        assert time.monotonic() < deadline, f"processes are left behind: {alive(children)}"
        time.sleep(0.02)
    with Client.embedded(tmp_path / "state", services=["storage", "supervisor"]) as client:
        [interrupted] = client.pipelines()
    assert interrupted.status == Pipeline.INTERRUPTED
    assert interrupted.num_triggers >= triggers_before_the_kill - 1  # the last one may not have been journaled
    assert interrupted.samples_seen == 120 * interrupted.num_triggers
    again = run(tmp_path, "state", "out")
    assert again.cost.trainings_reused >= triggers_before_the_kill
    undisturbed = run(tmp_path, "fresh", "fresh-out")
    assert without_volatile(again) == without_volatile(undisturbed)
