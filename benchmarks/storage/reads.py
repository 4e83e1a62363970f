"""Reading random samples: through gRPC and straight from the segments, against a DataLoader over a memory map."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Result
from benchmarks.storage.data import Bytes, Records, matrix
from benchmarks.storage.loader import LoaderProcess, Plan, loader_process
from benchmarks.storage.server import StorageProcess, storage_process, temporary_folder
from benchmarks.storage.timing import paired, say
from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeySet
from modyn.storage.reader import SampleBatch, read_samples

BATCH_SIZE = 256
FILES = 10
FRACTION = 0.5
ROUNDS = 21
"""More than elsewhere: an epoch takes a tenth of a second, and other processes disturb some of them."""

HAS_LOCAL = "local" in inspect.signature(read_samples).parameters


@dataclass(frozen=True)
class Case:
    """A dataset of ``count`` samples of ``width`` bytes, label included, and the bounds of its ratios."""

    name: str
    count: int
    width: int
    target: float
    local_target: float | None = None


CASES = {
    case.name: case
    for case in (
        Case("storage.read_160b", 1_000_000, 160, 2.0),
        Case("storage.read_3kb", 50_000, 3 * 1024, 0.4, 1.2),
        Case("storage.read_100kb", 5_000, 100 * 1024, 0.35, 0.8),
    )
}


def measure(case: Case, wanted: set[str]) -> dict[str, Result]:
    """Ingests the dataset and reads half of it, in an order that is the same for all.

    Args:
        wanted: names of values; ``case.name`` and ``case.name + "_local"`` count.
    """
    with temporary_folder() as folder, storage_process(folder / "state") as server:
        say(f"{case.name}: writing {case.count:,} samples of {case.width:,} B and ingesting them")
        records = Records.random(case.count, case.width)
        single = _single_file(records, folder / "all.bin")
        server.client.register_dataset("files", records.write(folder / "files", FILES))
        server.ingest("files")
        server.client.register_dataset("appended")
        server.client.append("appended", "all", records.batch(np.arange(case.count)))
        keys = np.random.default_rng(11).permutation(case.count)[: int(case.count * FRACTION)]
        _check(server, records, keys)
        del records
        with loader_process(Plan(single, case.width, keys, BATCH_SIZE)) as loader:
            return _compare(case, wanted, server, loader, keys)


def _compare(
    case: Case, wanted: set[str], server: StorageProcess, loader: LoaderProcess, keys: Int64Array
) -> dict[str, Result]:
    rate = ", ".join(f"{workers} workers {len(keys) / s / 1e3:.0f} k/s" for workers, s in loader.seconds.items())
    say(f"{case.name}: DataLoader {rate}")
    results = {}
    for name, local, target in (
        (case.name, False, case.target),
        (f"{case.name}_local", True, case.local_target),
    ):
        if name not in wanted or target is None:
            continue
        if local and not HAS_LOCAL:
            say(f"{name}: skipped, this version has no short-circuit reads")
            continue
        results[name] = _result(name, server, loader, keys, local=local, target=target)
    return results


def _result(
    name: str, server: StorageProcess, loader: LoaderProcess, keys: Int64Array, *, local: bool, target: float
) -> Result:
    times = paired(lambda: epoch(server, "appended", keys, local=local), loader.epoch, rounds=ROUNDS)
    say(f"{name}: {len(keys) / min(times.ours) / 1e3:.0f} k samples/s; {times.sentence()}")
    in_place = paired(lambda: epoch(server, "files", keys, local=local), loader.epoch, rounds=ROUNDS)
    say(f"{name}, read in place from {FILES} files: {in_place.sentence()}")
    way = "short-circuit" if local else "gRPC"
    return Result(
        value=times.ratio,
        unit="×",
        baseline=(
            f"{way} against a torch DataLoader over a local memory map, {loader.workers} workers (best of 0/1/2); "
            f"random half, batch {BATCH_SIZE}, median of {ROUNDS} pairs (read in place from {FILES} files: "
            f"{in_place.ratio:.3g} ×)"
        ),
        target=target,
        at_most=False,
    )


def epoch(server: StorageProcess, dataset: str, keys: Int64Array, *, local: bool = False) -> float:
    """Seconds to read samples in batches that end as NumPy arrays."""
    options: dict[str, Any] = {"local": local} if HAS_LOCAL else {}
    start = time.perf_counter()
    count = 0
    for batch in read_samples(server.stub, dataset, KeySet.from_array(keys), batch_size=BATCH_SIZE, **options):
        payload, labels = arrays(batch)
        count += len(payload)
        assert len(labels) == len(payload)
    seconds = time.perf_counter() - start
    assert count == len(keys)
    return seconds


def arrays(batch: SampleBatch) -> tuple[Bytes, Int64Array]:
    """Payload uint8 [n, width] and labels int64 [n]."""
    return matrix(batch.columns["payload"]), batch.labels.to_numpy()


def _check(server: StorageProcess, records: Records, keys: Int64Array) -> None:
    """What is timed is also right."""
    some = keys[: 4 * BATCH_SIZE]
    for dataset in ("files", "appended"):
        for local in (False, True) if HAS_LOCAL else (False,):
            options: dict[str, Any] = {"local": local} if HAS_LOCAL else {}
            batches = read_samples(server.stub, dataset, KeySet.from_array(some), batch_size=BATCH_SIZE, **options)
            for number, batch in enumerate(batches):
                rows = some[number * BATCH_SIZE :][:BATCH_SIZE]
                payload, labels = arrays(batch)
                assert (batch.keys == rows).all()
                assert (payload == records.payload[rows]).all()
                assert (labels == records.labels[rows]).all()


def _single_file(records: Records, path: Path) -> Path:
    with path.open("wb") as file:
        records.values.tofile(file)
    return path
