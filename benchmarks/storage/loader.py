"""The baseline of reading: a torch DataLoader over a local memory map, one ``__getitem__`` a sample.

It runs in a process of its own: its workers are forked, which a process with gRPC threads should not be.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.storage.data import LABEL_BYTES, Bytes
from modyn.core.arrow import Int64Array

WORKERS = (0, 1, 2)
CALIBRATION_EPOCHS = 2
BATCHES_PREFETCHED = 4

ONE_TENSOR_BYTES = 700_000
"""Workers hand over smaller batches faster as NumPy arrays, larger ones as a tensor in shared memory."""

Sample = tuple[memoryview, int]


@dataclass(frozen=True)
class Plan:
    """What is read: samples ``keys`` [n] of a file of fixed-size records, in batches."""

    path: Path
    width: int
    keys: Int64Array
    batch_size: int


class MappedRecords:
    """Samples of a memory-mapped file. Slices of a memoryview are the cheapest per-sample access Python has."""

    def __init__(self, path: Path, width: int, *, as_tensors: bool) -> None:
        self._data = memoryview(np.memmap(path, dtype=np.uint8, mode="r"))  # type: ignore[arg-type]
        self._width = width
        self._as_tensors = as_tensors

    def __getitem__(self, index: int) -> Sample:
        start = index * self._width
        label = int.from_bytes(self._data[start : start + LABEL_BYTES], "little")
        return self._data[start + LABEL_BYTES : start + self._width], label

    def collate(self, samples: list[Sample]) -> tuple[Any, Int64Array]:
        """Payload uint8 [n, width - 4], copied once, and labels int64 [n]."""
        payloads, labels = zip(*samples, strict=True)
        joined = bytearray().join(payloads)
        payload: Bytes = np.frombuffer(joined, dtype=np.uint8).reshape(len(samples), self._width - LABEL_BYTES)
        if self._as_tensors:
            import torch

            return torch.from_numpy(payload), np.array(labels)
        return payload, np.array(labels)


class LoaderProcess:
    """Reads epochs of a plan when asked to, with the number of workers that turned out fastest."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.seconds: dict[int, float] = connection.recv()
        """Seconds of an epoch by number of workers."""
        self.workers = min(self.seconds, key=lambda workers: self.seconds[workers])

    def epoch(self) -> float:
        """Seconds of one more epoch."""
        self._connection.send(self.workers)
        seconds: float = self._connection.recv()
        return seconds


@contextmanager
def loader_process(plan: Plan) -> Iterator[LoaderProcess]:
    """Starts the process and finds the best number of workers."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, plan), name="loader")
    process.start()
    there.close()
    try:
        yield LoaderProcess(here)
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, plan: Plan) -> None:
    from torch.utils.data import DataLoader

    def loader(workers: int) -> DataLoader[Any]:
        as_tensors = workers > 0 and plan.batch_size * plan.width > ONE_TENSOR_BYTES
        records: Any = MappedRecords(plan.path, plan.width, as_tensors=as_tensors)
        batches = np.split(plan.keys, range(plan.batch_size, len(plan.keys), plan.batch_size))
        return DataLoader(
            records,
            batch_sampler=[batch.tolist() for batch in batches],
            collate_fn=records.collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
            prefetch_factor=BATCHES_PREFETCHED if workers else None,
        )

    seconds = {}
    for workers in WORKERS:
        tried = loader(workers)
        _epoch(tried, plan)
        seconds[workers] = median(_epoch(tried, plan) for _ in range(CALIBRATION_EPOCHS))
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
        connection.send(_epoch(loaders[workers], plan))


def _epoch(loader: Any, plan: Plan) -> float:
    start = time.perf_counter()
    count = 0
    for payload, labels in loader:
        count += len(payload)
        assert len(labels) == len(payload)
    seconds = time.perf_counter() - start
    assert count == len(plan.keys)
    return seconds
