"""Killing the storage service at random moments."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.storage.reader import read_samples
from tests.storage.crash_child import BATCH_SIZE
from tests.storage.support import NAME, StorageServer

ROOT = Path(__file__).resolve().parents[2]
KILLS = 6
FILE_SIZE = 40


def run_and_kill(state: Path, folder: Path, first_batch: int, seconds: float) -> list[list[str]]:
    """Acknowledgements of a child that was killed after a while."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.crash_child", str(state), str(folder), str(first_batch)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines: list[list[str]] = []
    try:
        assert child.stdout.readline().strip() == "ready"

        def collect() -> None:
            assert child.stdout is not None
            lines.extend(line.split() for line in child.stdout if line.endswith("\n"))

        reader = threading.Thread(target=collect)
        reader.start()
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        reader.join()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return lines


def test_nothing_acknowledged_is_lost_and_nothing_is_doubled(tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "source"
    folder.mkdir()
    rng = random.Random(4)
    batches: dict[int, KeyRange] = {}
    files = 0
    for _ in range(KILLS):
        # The last acknowledged batch is sent once more: its keys must be the same.
        first_batch = max(batches, default=0)
        for kind, number, *fields in run_and_kill(state, folder, first_batch, rng.uniform(0.05, 0.6)):
            if kind == "append":
                keys = KeyRange(int(fields[0]), int(fields[1]))
                assert batches.setdefault(int(number), keys) == keys
                assert int(fields[2]) == 0 or int(number) == first_batch or int(number) == first_batch + 1
            else:
                files = max(files, int(number))
        check(state, folder, batches, files)
    assert len(batches) > KILLS
    assert files > KILLS


def check(state: Path, folder: Path, batches: dict[int, KeyRange], files: int) -> None:
    """What a restarted service has: dense keys, every acknowledged sample once, each file whole or not at all."""
    storage = StorageServer(StateDirectory(state))
    try:
        end_key = storage.describe().end_key
        whole = KeySet(ranges=(KeyRange(0, end_key),)) if end_key else KeySet(ranges=())
        values = np.zeros(0, dtype=np.int64)
        for batch in read_samples(storage.stub, NAME, whole, batch_size=1_000_000):
            assert np.array_equal(batch.keys, np.arange(end_key)), "keys are dense"
            values = batch.columns["x"].to_numpy()
            assert np.array_equal(batch.timestamps, np.abs(values)), "parts of a sample belong together"
            assert np.array_equal(batch.labels.to_numpy(), np.abs(values) % 7)
        for number, keys in batches.items():
            expected = np.arange(number * BATCH_SIZE, (number + 1) * BATCH_SIZE)
            assert np.array_equal(values[keys.start : keys.end], expected)
        appended = values[values >= 0]
        ingested = -values[values < 0]
        # A zero may come from either side, so it is counted with the batches.
        zeros = int((values == 0).sum())
        assert len(np.unique(appended[appended > 0])) == (appended > 0).sum(), "no batch twice"
        assert len(np.unique(ingested)) == len(ingested), "no file twice"
        assert zeros <= 2
        whole_files = np.unique(ingested // FILE_SIZE)
        assert set(whole_files) >= set(range(files)), "no acknowledged file is missing"
        assert len(ingested) == len(whole_files) * FILE_SIZE - (1 if 0 in whole_files else 0), "no half file"
        storage.service._datasets.get(NAME).verify()
        segments = list((state / "datasets").glob("*/segments/*"))
        assert len(segments) == storage.describe().num_segments, "nothing is left behind"
    finally:
        storage.stop()
