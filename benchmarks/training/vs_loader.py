"""Training through the services beside a torch DataLoader over a local file, with the same parser.

The loader's loop runs in a process of its own: its workers are forked, which a process with gRPC threads should not be.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.results import Result
from benchmarks.storage.server import storage_process, temporary_folder
from benchmarks.storage.timing import paired
from benchmarks.training.cases import CASES, LABEL_BYTES, Case, Ours, one_thread, plain_epoch

COMPARED = ("mlp", "cnn")
NAMES = tuple(f"training.vs_loader_{name}" for name in COMPARED)

WORKERS = (0, 1, 2)
CALIBRATION_EPOCHS = 2
ROUNDS = 5

Sample = tuple[memoryview, int, float]


class MappedRecords:
    """Samples of a memory-mapped file of records: a slice of the map each, parsed batch by batch."""

    def __init__(self, path: Path, case: Case) -> None:
        self._case = case
        self._weights = case.weights().tolist()
        data = np.memmap(path, dtype=np.uint8, mode="r")
        self._width = len(data) // case.num_samples
        self._data = memoryview(data)  # type: ignore[arg-type]  # slices of it are the cheapest that Python has

    def __len__(self) -> int:
        return self._case.num_samples

    def __getitem__(self, index: int) -> Sample:
        start = index * self._width
        label = int.from_bytes(self._data[start : start + LABEL_BYTES], "little")
        return self._data[start + LABEL_BYTES : start + self._width], label, self._weights[index]

    def collate(self, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, labels and weights of a batch."""
        payloads, labels, weights = zip(*samples, strict=True)
        joined = np.frombuffer(bytearray().join(payloads), dtype=np.uint8)
        payload: npt.NDArray[np.uint8] = joined.reshape(len(samples), self._width - LABEL_BYTES)
        return torch.from_numpy(self._case.parse(payload)), torch.tensor(labels), torch.tensor(weights)


class LoaderProcess:
    """Trains epochs when asked to, with the number of workers that turned out fastest."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        seconds: dict[int, float] = connection.recv()
        self.workers = min(seconds, key=lambda workers: seconds[workers])

    def epoch(self) -> float:
        """Seconds of one more epoch."""
        self._connection.send(self.workers)
        seconds: float = self._connection.recv()
        return seconds


def measure() -> dict[str, Result]:
    """Throughput of ours over that of the loader's loop: epochs of both in turn, median of the ratios."""
    with one_thread():
        return {f"training.vs_loader_{case.name}": compare(case) for case in CASES if case.name in COMPARED}


def compare(case: Case, rounds: int = ROUNDS) -> Result:
    """Both at one training."""
    records = case.records()
    with temporary_folder() as folder, storage_process(folder / "state") as server:
        path = folder / "records.bin"
        path.write_bytes(records.values.tobytes())
        ours = Ours(case, server, records)
        with _loader_process(path, case) as loader:
            times = paired(ours.epoch, loader.epoch, rounds)
    baseline = (
        f"{case.sentence()}; {times.sentence()} (torch DataLoader over a memory-mapped file, the same parser, batch by "
        f"batch; {loader.workers} workers, the best of {', '.join(map(str, WORKERS))}; they stay from epoch to epoch)"
    )
    return Result(times.ratio, "×", baseline, 1.0, at_most=False)


@contextmanager
def _loader_process(path: Path, case: Case) -> Iterator[LoaderProcess]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, path, case), name="loader")
    process.start()
    there.close()
    try:
        yield LoaderProcess(here)
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, path: Path, case: Case) -> None:
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    records = MappedRecords(path, case)

    def loader(workers: int) -> DataLoader[Any]:
        return DataLoader(
            records,  # type: ignore[arg-type]  # what it needs, without a base class
            batch_size=case.batch_size,
            shuffle=True,
            collate_fn=records.collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )

    seconds = {}
    for workers in WORKERS:
        tried = loader(workers)
        seconds[workers] = median(plain_epoch(case, iter(tried)) for _ in range(1 + CALIBRATION_EPOCHS))
        del tried  # ends its workers
    connection.send(seconds)
    loaders: dict[int, DataLoader[Any]] = {}
    while True:
        try:
            workers = connection.recv()
        except EOFError:
            return
        if workers not in loaders:
            loaders[workers] = loader(workers)
        connection.send(plain_epoch(case, iter(loaders[workers])))
