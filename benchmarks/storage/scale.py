"""A hundred million samples: memory, the time of an interval, and whether ingest slows down as a dataset grows."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from benchmarks.results import Result
from benchmarks.storage.intervals import interval_keys
from benchmarks.storage.server import StorageProcess, memory_of, storage_process, temporary_folder
from benchmarks.storage.timing import say, seconds_of
from modyn.core.keysets import KeySet

SAMPLES = 100_000_000
BATCH = 1_000_000
"""Samples of one ``Append``."""

DATASETS = ("stream", "again", "once more")
"""Filled one after the other, because the disk is not equally fast at all times; the first is read from."""

RANDOM_LABELS = 1_000_000
START = 1_600_000_000
SPAN = 100_000_000
"""Random timestamps of this many seconds, so an interval of 1 % holds about 1 M samples scattered over all segments."""

INTERVAL = (START + SPAN // 2, START + SPAN // 2 + SPAN // 100)
QUERIES = 3
NEEDED_BYTES = 20 << 30
"""Free disk space, for 7.2 GB of samples and what is written on the way."""

NAMES = ("storage.growth", "storage.rss_100m", "storage.interval_100m_s")


def hundred_million(samples: int = SAMPLES) -> dict[str, Result]:
    """Fills a dataset by ``Append``, restarts the server and reads."""
    with temporary_folder() as folder:
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            say(f"{', '.join(NAMES)}: skipped, {free >> 30} GiB free on the disk; {NEEDED_BYTES >> 30} GiB needed")
            return {}
        with storage_process(folder / "state") as server:
            growths = [_growth(_fill(server, name, samples)) for name in DATASETS]
            os.sync()
            say(f"restarting the server, which took {server.memory():.2f} GiB at most")
            say(f"restarted in {seconds_of(server.restart):.2f} s")
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the client's peak is that of reading, too
            queries = _read(server, samples)
            mapped = server.memory("RssFile")
            rss = server.memory()
            say(f"storage.rss_100m: {rss:.2f} GiB, of it {mapped:.2f} GiB of mapped files now; "
                f"the client {memory_of('self'):.2f} GiB")  # fmt: skip
    return {
        "storage.growth": Result(
            value=median(growths),
            unit="×",
            baseline=f"Append of the last tenth of {samples:,} samples over the first, {BATCH:,} a batch; median of "
            f"{len(DATASETS)} datasets",
            target=1.2,
        ),
        "storage.rss_100m": Result(
            value=rss,
            unit="GiB",
            baseline=f"peak memory of the storage process: {samples:,} samples opened and counted, an interval and "
            f"{RANDOM_LABELS:,} random labels read; pages of mapped files included",
            target=2,
        ),
        "storage.interval_100m_s": Result(
            value=median(queries),
            unit="s",
            baseline=f"keys of an interval of 1 % of {samples:,} samples with random timestamps, as the client sees "
            f"it; median of {QUERIES}",
            target=0.5,
        ),
    }


def _growth(seconds: list[float]) -> float:
    """How much longer the last tenth took than the first."""
    tenth = max(1, len(seconds) // 10)
    first, last = sum(seconds[:tenth]), sum(seconds[-tenth:])
    say(f"storage.growth: first tenth {first:.3g} s, last {last:.3g} s")
    return last / first


def _fill(server: StorageProcess, dataset: str, samples: int) -> list[float]:
    """Seconds of each batch's ``Append``."""
    server.client.register_dataset(dataset)
    rng = np.random.default_rng(1)
    seconds = []
    for first in range(0, samples, BATCH):
        batch = pa.record_batch(
            {
                "timestamp": rng.integers(START, START + SPAN, BATCH),
                "label": rng.integers(0, 1000, BATCH),
                "value": np.arange(first, first + BATCH),
            }
        )
        seconds.append(seconds_of(partial(server.client.append, dataset, str(first), batch)))
        if (first + BATCH) % (10 * BATCH) == 0:
            say(f"storage.growth: {first + BATCH:,} samples, the last 10 M in {sum(seconds[-10:]):.3g} s")
    return seconds


def _read(server: StorageProcess, samples: int) -> list[float]:
    """Counts, reads an interval and random labels; seconds of each query of the interval."""
    described = server.client.dataset("stream")
    assert described.num_samples == samples
    say(f"counted {described.num_samples:,} samples in {described.num_segments} segments: {server.memory():.2f} GiB")
    queries = []
    for _ in range(QUERIES):
        found = 0

        def query() -> None:
            nonlocal found
            found = len(interval_keys(server, "stream", INTERVAL))

        queries.append(seconds_of(query))
        say(f"storage.interval_100m_s: {found:,} keys in {queries[-1]:.3g} s: {server.memory():.2f} GiB")
    keys = np.random.default_rng(2).integers(0, samples, RANDOM_LABELS)
    seconds = seconds_of(lambda: server.client.read_columns("stream", columns=("label",), keys=KeySet.from_array(keys)))
    say(f"{RANDOM_LABELS:,} random labels in {seconds:.3g} s: {server.memory():.2f} GiB")
    return queries
