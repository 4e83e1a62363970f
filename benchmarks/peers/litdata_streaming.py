"""litdata: samples of an optimised dataset by ``ds[i]``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.common import LABEL_BYTES, Bytes, Indexed, main

CHUNK_BYTES = 64 << 20


def write(records: Bytes, folder: Path) -> None:
    """As its documentation says: a dict a sample, in chunks of 64 MB."""
    labels = np.ascontiguousarray(records[:, :LABEL_BYTES]).view("<u4").reshape(-1).tolist()
    writer = importlib.import_module("litdata.streaming.writer").BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES)
    for index, (record, label) in enumerate(zip(records, labels, strict=True)):
        writer[index] = {"payload": record[LABEL_BYTES:].tobytes(), "label": label}
    writer.done()
    writer.merge()


def opened(folder: Path) -> Indexed:
    """The dataset, local and unshuffled. By default a sample of this size is decoded together with 255 neighbours,
    which serves sequential reading; decoding one alone makes random reading several times faster.
    """
    dataset: Indexed = importlib.import_module("litdata").StreamingDataset(str(folder), shuffle=False, batch_decode=0)
    return dataset


def sample(found: Any) -> tuple[Any, int]:
    return found["payload"], found["label"]


if __name__ == "__main__":
    main("litdata", write, opened, sample)
