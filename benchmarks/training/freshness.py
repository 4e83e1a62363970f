"""Live mode: from a file that is renamed into place to a model trained on it that can be loaded."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from benchmarks.results import Result
from benchmarks.storage.server import temporary_folder
from benchmarks.storage.timing import say
from benchmarks.training.small import pipeline_of, rows
from modyn.client import Client, LiveOptions
from modyn.proto.supervisor_pb2 import Pipeline, PipelineEvent

NAMES = ("training.freshness_s",)

PER_FILE = 500
FILES, WARM_UP = 20, 2


def measure() -> dict[str, Result]:
    """Median over files, each of which makes the trigger fire, at moments that know nothing of the watcher's."""
    with temporary_folder() as folder:
        data = folder / "data"
        data.mkdir()
        source = {"format": "parquet", "path": str(data), "timestamp": "timestamp", "label": "label"}
        with Client.embedded(folder / "state", what="a benchmark") as client:
            seconds = _seconds(client, pipeline_of(PER_FILE, source), data)
    say(f"freshness: {', '.join(f'{value:.2f}' for value in seconds)} s")
    baseline = (
        f"a file of {PER_FILE} rows renamed into place until the model trained on it is loaded, amount trigger of "
        f"{PER_FILE}, MLP 8-32-2, default settings, median of {len(seconds)} (slowest {max(seconds):.2f} s)"
    )
    return {NAMES[0]: Result(median(seconds), "s", baseline, target=1)}


def _seconds(client: Client, pipeline: str, data: Path) -> list[float]:
    pipeline_id = client.submit(pipeline, LiveOptions())
    events = client.watch(pipeline_id)
    while next(events).pipeline.status != Pipeline.RUNNING:
        pass
    pauses = random.Random(0)
    seconds = []
    for index in range(FILES):
        time.sleep(pauses.uniform(0.1, 1.1))
        unfinished = data / f"{index}.tmp"
        pq.write_table(rows(PER_FILE, index * PER_FILE), unfinished)
        started = time.perf_counter()
        os.rename(unfinished, data / f"{index}.parquet")
        _await_training(events, index)
        client.load_model(f"{pipeline_id}:{index}")
        seconds.append(time.perf_counter() - started)
    client.stop(pipeline_id)
    return seconds[WARM_UP:]


def _await_training(events: Iterator[PipelineEvent], index: int) -> None:
    for event in events:
        if event.WhichOneof("kind") == "training" and event.training.done and event.training.trigger_index == index:
            return
    raise RuntimeError(f"the pipeline ended before trigger {index} was trained")
