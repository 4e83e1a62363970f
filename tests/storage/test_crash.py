"""Killing the storage service at random moments while it ingests, appends, labels, deletes and compacts."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modyn.core.state import StateDirectory
from tests.storage.support import StorageServer
from tests.storage.workload import Event, Ledger, take_all

ROOT = Path(__file__).resolve().parents[2]


def run_and_kill(state: Path, folder: Path, number: int, seconds: float) -> list[Event]:
    """What a child said that was killed after a while."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.crash_child", str(state), str(folder), str(number)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    events: list[Event] = []
    try:
        assert json.loads(child.stdout.readline())["what"] == "ready"

        def collect() -> None:
            assert child.stdout is not None
            events.extend(json.loads(line) for line in child.stdout if line.endswith("\n"))

        reader = threading.Thread(target=collect)
        reader.start()
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        reader.join()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return events


def kill_often(tmp_path: Path, kills: int, seed: int) -> None:
    """Kills at least so often, and until as many acts of every kind were acknowledged."""
    state, folder = tmp_path / "state", tmp_path / "sources"
    folder.mkdir()
    rng, ledger = random.Random(seed), Ledger()
    number = 0
    while number < kills or min(ledger.num_acknowledged.values()) < kills:  # a busy machine gets little done in a round
        events = run_and_kill(state, folder, number, rng.uniform(0.05, 0.8))
        assert take_all(ledger, events) == []
        storage = StorageServer(StateDirectory(state))
        try:
            ledger.check(storage, folder)
        finally:
            storage.stop()
        number += 1


def test_nothing_acknowledged_is_lost_and_nothing_is_doubled(tmp_path: Path) -> None:
    kill_often(tmp_path, kills=6, seed=4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_very_often(tmp_path: Path, seed: int) -> None:
    kill_often(tmp_path, kills=40, seed=seed)
