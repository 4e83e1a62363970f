"""Batches parsed by a pool of processes, in a test's own process or in a job."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from modyn.core.config.pipeline import DataSection
from modyn.core.digests import digest_bytes
from modyn.core.draws import Draws
from modyn.models.parserprocess import _Forked
from modyn.models.workers import ParserPool

RANDOM = """
import random
import numpy as np
import torch

def bytes_parser_function(data):
    noise = np.random.rand(2, 3) + random.random()
    half = torch.tensor([data[0]], dtype=torch.bfloat16)
    return {"noise": noise, "drawn": torch.rand(3), "half": half, "odd": data[0] % 2 == 1}
"""


def section(**keys: Any) -> DataSection:
    return DataSection.model_validate({"dataset_id": "d", **keys})


def batch(number: int, rows: int = 4) -> dict[str, pa.Array]:
    return {"data": pa.array([bytes([number, row]) for row in range(rows)])}


def parsed(data: DataSection, root: str | None, workers: int, batches: int = 6) -> list[Any]:
    """All batches of an epoch, in order."""
    with ParserPool(data, root, workers) as pool:
        futures = [pool.submit(batch(i), Draws(7, 1, 2, np.arange(4) + i), i) for i in range(batches)]
        return [future.result() for future in futures]


def digest(outputs: list[Any]) -> str:
    """Of names, types and bits."""
    parts: list[bytes] = []
    for output in outputs:
        for name, tensor in sorted(output.items()):
            parts += [f"{name} {tensor.dtype} {list(tensor.shape)}".encode()]
            parts += [tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()]
    return digest_bytes(b"\n".join(parts))


def parse_in_a_job(payload: bytes, emit: Any) -> None:
    """Entry point: a digest, the seconds to make the pool, and whether its processes are forks, for each number."""
    data = section(bytes_parser_function=RANDOM)
    for workers in json.loads(payload):
        began = time.perf_counter()
        with ParserPool(data, None, workers) as pool:
            seconds = time.perf_counter() - began
            forked = all(isinstance(process._process, _Forked) for process in pool._processes)
        emit(json.dumps([digest(parsed(data, None, workers)), seconds, forked]).encode())


def hang_in_a_job(payload: bytes, emit: Any) -> None:
    """Entry point: processes that are busy for a minute; emits their ids."""
    data = section(bytes_parser_function="parsing_of_test:bytes_parser_function")
    pool = ParserPool(data, payload.decode(), 2)
    for number in range(2):
        pool.submit(batch(88), Draws(7, 1, 2, np.arange(4)), number)
    emit(json.dumps([process._process._pid for process in pool._processes]).encode())  # type: ignore[attr-defined]
    time.sleep(60)


def close_in_a_job(payload: bytes, emit: Any) -> None:
    """Entry point: closes a pool that is busy for a minute; emits what became of it."""
    pool = ParserPool(section(bytes_parser_function="parsing_of_test:bytes_parser_function"), payload.decode(), 2)
    numbers = Draws(7, 1, 2, np.arange(4))
    busy = [pool.submit(batch(88), numbers, number) for number in range(2)]
    waiting = pool.submit(batch(1), numbers, 2)
    time.sleep(0.1)
    pids = [process._process._pid for process in pool._processes]  # type: ignore[attr-defined]
    began = time.perf_counter()
    pool.close()
    seconds = time.perf_counter() - began
    error = busy[0].exception()
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("parser-")]
    emit(json.dumps([seconds, waiting.cancelled(), f"{type(error).__name__}: {error}", left, threads]).encode())
