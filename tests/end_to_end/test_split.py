"""The services as five processes give the same report as one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from modyn.client import Client, LiveOptions, ReplayOptions
from modyn.core.report import without_volatile
from modyn.core.state import SERVICES
from modyn.proto.supervisor_pb2 import Pipeline
from tests.helpers.streams import pipeline_tree, project, write_pipeline

SERVING = re.compile(r" at (\S+)$")


@contextmanager
def served(state: Path, services: list[str], *arguments: str) -> Iterator[str]:
    """A real ``modyn serve`` process; yields its address, checks that it ends cleanly."""
    command = [sys.executable, "-m", "modyn.client.cli", "serve", *services, "--address", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--state", str(state), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        address = next((m[1] for line in process.stdout if (m := SERVING.search(line.strip()))), None)
        assert address is not None, f"serve {services} ended with {process.wait()}"
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, 128 + signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def five_processes(state: Path, catalog: str | None = None) -> Iterator[str]:
    """All services, each in a process of its own; yields the supervisor's address."""
    with ExitStack() as stack:
        addresses: dict[str, str] = {}
        for service in SERVICES:  # in this order each one only needs those before it
            peers = [part for name, at in addresses.items() for part in (f"--{name.replace('_', '-')}", at)]
            extra = ["--catalog", catalog] if catalog else []
            addresses[service] = stack.enter_context(served(state, [service], *peers, *extra))
        yield addresses["supervisor"]


INGESTION_PAGE = Path(__file__).parents[2] / "docs" / "howto" / "ingestion_jobs.md"


def ingestion_job_of_the_docs(address: str) -> str:
    """The program of the how-to page, as a user would copy it, for another server."""
    programs: list[str] = re.findall(r"```python\n(.*?)```", INGESTION_PAGE.read_text(), re.DOTALL)
    [program] = [text for text in programs if "client.append(" in text and "register_dataset" in text]
    assert "127.0.0.1:50051" in program
    return program.replace("127.0.0.1:50051", address)


def absolute_project(folder: Path) -> Path:
    """A server elsewhere does not know where our YAML lies: its paths are absolute."""
    data = pipeline_tree()["data"]
    data["source"]["path"] = str(folder / "data")
    return project(folder, data=data)


@pytest.mark.parametrize("database", [pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"])
def test_five_processes_report_what_one_does(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> None:
    pipeline = absolute_project(tmp_path)
    with Client.embedded(tmp_path / "one") as client:
        pipeline_id = client.submit(pipeline)
        assert client.wait(pipeline_id).status == Pipeline.COMPLETED
        expected = client.report(pipeline_id)
    catalog = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    with five_processes(tmp_path / "five", catalog) as address, Client(address) as client:
        pipeline_id = client.submit(pipeline)
        assert client.wait(pipeline_id).status == Pipeline.COMPLETED
        assert without_volatile(client.report(pipeline_id)) == without_volatile(expected)


def test_the_ingestion_job_of_the_docs_feeds_a_live_pipeline(tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path,
        data={"dataset_id": "sensors"},
        model={"id": "MLP", "config": {"in_features": 2, "hidden": [8], "num_classes": 2}},
        trigger={"id": "DataAmountTrigger", "num_samples": 100},
    )
    with served(tmp_path / "state", []) as address, Client(address) as client:
        client.register_dataset("sensors")
        live_id = client.submit(pipeline, LiveOptions())
        program = ingestion_job_of_the_docs(address)
        for repetition in range(2):  # run again, as after a crash: nothing arrives twice
            job = subprocess.run(
                [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
            )
            assert job.stdout.count(str(bool(repetition))) == 3
        deadline = time.monotonic() + 60
        while client.status(live_id).num_triggers < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.stop(live_id).status == Pipeline.STOPPED
        replay_id = client.submit(pipeline, ReplayOptions(order="arrival"))
        assert client.wait(replay_id).status == Pipeline.COMPLETED
        live, replayed = client.report(live_id), client.report(replay_id)
    assert [trigger.new_samples for trigger in live.triggers] == [100, 100, 100]
    assert [(t.training_set, t.model) for t in live.triggers] == [(t.training_set, t.model) for t in replayed.triggers]
