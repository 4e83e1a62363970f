"""What every peer is measured with. Imported in the peers' own environments: nothing but NumPy and torch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

BATCH_SIZE = 256
WORKERS = (0, 1, 2)
LABEL_BYTES = 4
EPOCHS = 2

Bytes = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.int64]
Writer = Callable[[Bytes, Path], None]
Opener = Callable[[Path], "Indexed"]


class Indexed(Protocol):
    """A dataset of n samples."""

    def __getitem__(self, index: int) -> Any: ...


class Samples:
    """``ds[i]`` as (payload, label), for a DataLoader that takes it for a map-style dataset.

    Args:
        dataset: the peer's; opened before workers are forked.
        sample: the payload and label of what ``ds[i]`` answers.
    """

    def __init__(self, dataset: Indexed, sample: Callable[[Any], tuple[Any, int]]) -> None:
        self._dataset = dataset
        self._sample = sample

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._sample(self._dataset[index])


def collate(samples: list[tuple[Any, int]]) -> tuple[Bytes, Keys]:
    """Payload uint8 [n, width] and labels int64 [n]."""
    payloads, labels = zip(*samples, strict=True)
    payload = np.frombuffer(bytearray().join(payloads), dtype=np.uint8).reshape(len(samples), -1)
    return payload, np.array(labels)


def main(package: str, writer: Writer, opener: Opener, sample: Callable[[Any], tuple[Any, int]]) -> None:
    """Writes the dataset, reads keys in batches and prints what was measured as a line of JSON.

    Arguments of the command line: file with the records, bytes of a record, file with the keys (``.npy``), folder.
    """
    from torch.utils.data import DataLoader

    records_path, width, keys_path, folder = sys.argv[1:]
    records = np.fromfile(records_path, dtype=np.uint8).reshape(-1, int(width))
    keys: Keys = np.load(keys_path)
    start = time.perf_counter()
    writer(records, Path(folder))
    written = time.perf_counter() - start
    samples = Samples(opener(Path(folder)), sample)
    _check(samples, records, keys)
    batches = [part.tolist() for part in np.split(keys, range(BATCH_SIZE, len(keys), BATCH_SIZE))]
    rates = {}
    for workers in WORKERS:
        dataset: Any = samples
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )
        rates[workers] = max(_rate(loader, keys) for _ in range(EPOCHS))
    answer = {"package": package, "version": version(package), "rates": rates, "write_seconds": written}
    print(json.dumps(answer), flush=True)


def _rate(loader: Any, keys: Keys) -> float:
    """Samples a second of one epoch."""
    start = time.perf_counter()
    count = sum(len(labels) for _, labels in loader)
    assert count == len(keys)
    return count / (time.perf_counter() - start)


def _check(samples: Samples, records: Bytes, keys: Keys) -> None:
    payload, labels = collate([samples[key] for key in keys[:BATCH_SIZE].tolist()])
    expected = records[keys[:BATCH_SIZE]]
    assert (payload == expected[:, LABEL_BYTES:]).all()
    assert (labels == np.ascontiguousarray(expected[:, :LABEL_BYTES]).view("<u4").reshape(-1)).all()
