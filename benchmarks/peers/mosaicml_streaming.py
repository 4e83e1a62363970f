"""MosaicML Streaming: samples of an MDS dataset by ``ds[i]``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.common import LABEL_BYTES, Bytes, Indexed, main


def _streaming() -> Any:
    """The package. It imports torchvision, whose operators are missing beside a CPU build of torch, so that describing
    them fails; nothing here uses them.
    """
    import torch

    register, torch.library.register_fake = torch.library.register_fake, _ignored
    try:
        return importlib.import_module("streaming")
    finally:
        torch.library.register_fake = register


def _ignored(*_: Any, **__: Any) -> Any:
    return lambda function: function


def write(records: Bytes, folder: Path) -> None:
    """As its documentation says: a dict a sample."""
    labels = np.ascontiguousarray(records[:, :LABEL_BYTES]).view("<u4").reshape(-1).tolist()
    with _streaming().MDSWriter(out=str(folder), columns={"payload": "bytes", "label": "int"}) as writer:
        for record, label in zip(records, labels, strict=True):
            writer.write({"payload": record[LABEL_BYTES:].tobytes(), "label": label})


def opened(folder: Path) -> Indexed:
    """The dataset, local and unshuffled."""
    dataset: Indexed = _streaming().StreamingDataset(local=str(folder), shuffle=False, batch_size=1)
    return dataset


def sample(found: Any) -> tuple[Any, int]:
    return found["payload"], found["label"]


if __name__ == "__main__":
    main("mosaicml-streaming", write, opened, sample)
