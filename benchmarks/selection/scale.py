"""Selecting a tenth of a hundred million samples: seconds as a pipeline sees them, and the selector's memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.results import Result
from benchmarks.storage.server import START_SECONDS, memory_of, storage_process, temporary_folder
from benchmarks.storage.timing import say
from modyn.client import Client
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.rpc import connect
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSetHeader
from modyn.proto.selector_pb2_grpc import SelectorStub

SAMPLES = 100_000_000
BATCH = 2_000_000
"""Samples of one ``Append``."""

LABELS = 10
DATASET = "skewed"
RATIO = 10
NEEDED_BYTES = 6 << 30
"""Free disk space, for 1.7 GB of samples and what is written on the way."""

UNIFORM, BALANCED, RSS = "selection.uniform_100m_s", "selection.balanced_100m_s", "selection.rss_100m"
NAMES = (UNIFORM, BALANCED, RSS)
STRATEGIES = {UNIFORM: "Random", BALANCED: "LabelBalanced"}


def measure(samples: int = SAMPLES) -> dict[str, Result]:
    """Fills a dataset, then asks a selector in a process of its own for training sets; none if the disk is too full."""
    with temporary_folder() as folder:
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            say(f"{', '.join(NAMES)}: skipped, {free >> 30} GiB free on the disk; {NEEDED_BYTES >> 30} GiB needed")
            return {}
        state = folder / "state"
        with storage_process(state) as storage:
            _fill(storage.client, samples)
            os.sync()
            with _selector(state) as (stub, pid):
                seconds = {name: _seconds(stub, strategy, samples) for name, strategy in STRATEGIES.items()}
                rss = memory_of(pid)
                say(f"{RSS}: {rss:.2f} GiB, of it {memory_of(pid, 'RssFile'):.2f} GiB of mapped files now")
    what = f"{RATIO} % of {samples:,} labelled samples of one trigger, by rpc, storage in a process of its own"
    return {
        UNIFORM: Result(value=seconds[UNIFORM], unit="s", baseline=f"{what}; uniform", target=10),
        BALANCED: Result(
            value=seconds[BALANCED],
            unit="s",
            baseline=f"{what}; as many of each of {LABELS} labels, each half as frequent as the one before",
            target=10,
        ),
        RSS: Result(
            value=rss,
            unit="GiB",
            baseline="peak memory of the selector process over both; pages of mapped files included",
            target=3,
        ),
    }


def _fill(client: Client, samples: int) -> None:
    client.register_dataset(DATASET)
    rng = np.random.default_rng(1)
    chances = 0.5 ** np.arange(LABELS)
    started = time.perf_counter()
    for first in range(0, samples, BATCH):
        size = min(BATCH, samples - first)
        labels = rng.choice(LABELS, size, p=chances / chances.sum())
        columns = {"timestamp": np.arange(first, first + size), "label": labels, "value": labels.astype(np.int8)}
        client.append(DATASET, str(first), pa.record_batch(columns))
    say(f"appended {samples:,} samples in {time.perf_counter() - started:.0f} s")


def _seconds(stub: SelectorStub, strategy: str, samples: int) -> float:
    selection: dict[str, Any] = {
        "name": "CoresetStrategy",
        "presampling_config": {"strategy": strategy, "ratio": RATIO},
    }
    header = TrainingSetHeader(pipeline_id=strategy, dataset=DATASET, selection=to_value(selection), seed=1)
    new_data = KeySet(ranges=(KeyRange(0, samples),)).to_proto()
    requests = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=new_data)]
    started = time.perf_counter()
    made = stub.CreateTrainingSet(iter(requests))
    seconds = time.perf_counter() - started
    assert made.num_samples == samples * RATIO // 100
    say(f"{strategy}: {made.num_samples:,} of {samples:,} samples in {seconds:.2f} s")
    return seconds


@contextmanager
def _selector(state: Path) -> Iterator[tuple[SelectorStub, int]]:
    """``modyn serve selector`` beside a storage server of the same state directory; stopped at the end."""
    holder = StateDirectory(state).holder("storage")
    storage = holder.address if holder is not None else None
    assert storage is not None  # it was started before
    command = [sys.executable, "-m", "modyn.client.cli", "serve", "selector", "--address", "127.0.0.1:0"]
    process = subprocess.Popen([*command, "--storage", storage, "--state", str(state)], stdout=subprocess.DEVNULL)
    try:
        channel = connect(_address(state, process))
        yield SelectorStub(channel), process.pid
        channel.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _address(state: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        holder = StateDirectory(state).holder("selector")
        if holder is not None and holder.pid == process.pid and holder.address is not None:
            return holder.address
        time.sleep(0.02)
    raise RuntimeError(f"the selector did not start within {START_SECONDS:.0f} s")
