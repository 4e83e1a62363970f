"""Samples in: indexing files and appending batches, against COPY of the same rows into PostgreSQL."""

from __future__ import annotations

import itertools
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.results import Result
from benchmarks.storage.data import Records
from benchmarks.storage.postgres import Connection, copy_in, create_table, postgres
from benchmarks.storage.server import StorageProcess, storage_process, temporary_folder
from benchmarks.storage.timing import ROUNDS, Paired, paired, say, seconds_of

SAMPLES = 1_000_000
WIDTH = 160
FILE_SAMPLES = 50_000
BATCHES = 10
"""Of an append; a commit each, on both sides."""


def index_vs_copy() -> dict[str, Result]:
    """``Ingest`` of a freshly registered dataset, files cached, until all samples are durable and visible."""
    name = "storage.index_vs_copy"
    with temporary_folder() as folder, storage_process(folder / "state") as server, postgres() as connection:
        say(f"{name}: writing {SAMPLES // FILE_SAMPLES} files of {FILE_SAMPLES:,} records of {WIDTH} B")
        records = Records.random(SAMPLES, WIDTH)
        source = records.write(folder / "files", SAMPLES // FILE_SAMPLES)
        rows: dict[str, npt.NDArray[Any]] = {
            "key": np.arange(SAMPLES),
            "file": (np.arange(SAMPLES) // FILE_SAMPLES).astype(np.int32),
            "index": (np.arange(SAMPLES) % FILE_SAMPLES).astype(np.int32),
            "label": records.labels,
        }
        numbers = itertools.count()

        def ingest() -> float:
            dataset = f"files{next(numbers)}"
            server.client.register_dataset(dataset, source)
            seconds = seconds_of(lambda: server.ingest(dataset))
            assert server.client.dataset(dataset).num_samples == SAMPLES
            return seconds

        def copy(primary_key: str = ", PRIMARY KEY (key)") -> float:
            create_table(connection, f"key bigint, file integer, index integer, label bigint{primary_key}")
            return seconds_of(lambda: copy_in(connection, **rows))

        times = paired(ingest, copy)
        without = median(copy("") for _ in range(3))
        say(f"{name}: {times.sentence()}; COPY into a table in which no key can be found: {without:.3g} s")
    baseline = (
        "Ingest of 20 files of 50,000 records of 160 B against binary COPY of (key, file, index, label) into a table "
        f"with primary key (key); median of {ROUNDS} pairs (without the primary key, so that no key can be looked up: "
        f"{without / median(times.ours):.2g} ×)"
    )
    return {name: Result(value=times.ratio, unit="×", baseline=baseline, target=10, at_most=False)}


def append_vs_copy() -> dict[str, Result]:
    """``Append`` of all samples until acknowledged; in several batches, one after the other, for comparison."""
    name = "storage.append_vs_copy"
    with temporary_folder() as folder, storage_process(folder / "state") as server, postgres() as connection:
        records = Records.random(SAMPLES, WIDTH + 4)
        ratios = {}
        for batches in (1, BATCHES):
            times = _append(server, connection, records, batches)
            say(f"{name}: {batches} batches of {SAMPLES // batches:,} × {WIDTH} B: {times.sentence()}")
            ratios[batches] = times.ratio
    baseline = (
        f"one Append of {SAMPLES:,} samples of {WIDTH} B against one binary COPY with commit of (key, timestamp, "
        f"label, payload), primary key (key); median of {ROUNDS} pairs ({BATCHES} batches against as many COPYs: "
        f"{ratios[BATCHES]:.2g} ×)"
    )
    return {name: Result(value=ratios[1], unit="×", baseline=baseline, target=3, at_most=False)}


def _append(server: StorageProcess, connection: Connection, records: Records, batches: int) -> Paired:
    times = np.random.default_rng(3).integers(1_600_000_000, 1_700_000_000, SAMPLES)
    whole = records.batch(times)
    rows = SAMPLES // batches
    parts = [whole.slice(start, rows) for start in range(0, SAMPLES, rows)]
    payload = np.ascontiguousarray(records.payload).view(f"V{WIDTH}").reshape(-1)
    columns = {"key": np.arange(SAMPLES), "timestamp": times, "label": records.labels, "payload": payload}
    numbers = itertools.count()

    def append() -> float:
        dataset = f"appended{batches}-{next(numbers)}"
        server.client.register_dataset(dataset)

        def send() -> None:
            for number, part in enumerate(parts):
                server.client.append(dataset, str(number), part)

        seconds = seconds_of(send)
        assert server.client.dataset(dataset).num_samples == SAMPLES
        return seconds

    def copy() -> float:
        create_table(connection, "key bigint PRIMARY KEY, timestamp bigint, label bigint, payload bytea")

        def send() -> None:
            for start in range(0, SAMPLES, rows):
                copy_in(connection, **{name: values[start : start + rows] for name, values in columns.items()})

        return seconds_of(send)

    return paired(append, copy)
