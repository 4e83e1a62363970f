"""Made-up digits: 784 bytes a sample, in files of fixed-size records, learnable but not at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
HEADER = np.dtype([("label", "u1"), ("timestamp", "<i8")])
RECORD = np.dtype([("label", "u1"), ("timestamp", "<i8"), ("pixels", "u1", (PIXELS,))])
"""One sample in the file."""

SOURCE = {
    "format": "binary",
    "record_size": RECORD.itemsize,
    "label_size": 1,
    "timestamp_size": 8,
}
"""How Modyn reads it; add ``path``."""

PARSER = {"name": "numeric_record", "dtype": "uint8", "scale": 1 / 255}


def write_pictures(path: Path, count: int, first_timestamp: int = 0, seed: int = 3) -> None:
    """Writes so many samples, one a second, under a temporary name first."""
    rng = np.random.default_rng(seed)
    prototypes = np.random.default_rng(0).integers(0, 256, (CLASSES, PIXELS))
    records = np.empty(count, RECORD)
    records["label"] = rng.integers(0, CLASSES, count)
    records["timestamp"] = first_timestamp + np.arange(count)
    step = 10_000
    for start in range(0, count, step):
        part = records[start : start + step]
        noisy = 0.3 * prototypes[part["label"]] + 0.7 * rng.integers(0, 256, (len(part), PIXELS))
        part["pixels"] = noisy.astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    records.tofile(temporary)
    temporary.rename(path)


def pipeline_of(folder: Path, trigger_samples: int, **sections: Any) -> dict[str, Any]:
    """A pipeline on pictures in a folder: an amount trigger, an MLP with 128 hidden units, batches of 64, one epoch."""
    return {
        "pipeline": {"name": "pictures"},
        "data": {"dataset_id": "pictures", "source": {**SOURCE, "path": str(folder)}, "parser": PARSER},
        "model": {"id": "MLP", "config": {"in_features": PIXELS, "hidden": [128], "num_classes": CLASSES}},
        "trigger": {"id": "DataAmountTrigger", "num_samples": trigger_samples},
        "training": {
            "batch_size": 64,
            "optimizers": [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.1}}]}],
        },
        **sections,
    }
