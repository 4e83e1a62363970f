"""Small streams with known truth, and pipelines over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

DAY = 86_400
START = 1_000_000_000 // DAY * DAY


DAILY_AFTER_TRAINING = {
    "name": "daily",
    "models": "matrix",
    "execution_time": "after_training",
    "strategy": {"type": "SlicingEvalStrategy", "eval_every": "1d"},
}
"""An evaluation handler: every model on every day, right after its training."""


def drifting_table(days: int = 12, per_day: int = 40, seed: int = 0) -> pa.Table:
    """A two-class stream whose boundary turns by some degrees a day; in time order, four numeric columns."""
    rng = np.random.default_rng(seed)
    count = days * per_day
    points = rng.normal(size=(count, 4)).astype(np.float32)
    angle = np.repeat(np.arange(days), per_day) * (np.pi / days)
    labels = (points[:, 0] * np.cos(angle) + points[:, 1] * np.sin(angle) > 0).astype(np.int64)
    times = START + np.arange(count, dtype=np.int64) * (DAY // per_day)
    columns: dict[str, Any] = {f"x{i}": points[:, i] for i in range(4)}
    return pa.table({"timestamp": times, "label": labels, **columns})


def write_daily_files(folder: Path, table: pa.Table) -> None:
    """One Parquet file a day, renamed into place."""
    folder.mkdir(parents=True, exist_ok=True)
    days = (table["timestamp"].to_numpy() - START) // DAY
    for day in np.unique(days):
        name = f"day-{day:03}.parquet"
        pq.write_table(table.filter(pa.array(days == day)), folder / f".{name}")
        (folder / f".{name}").rename(folder / name)


def pipeline_tree(**changes: Any) -> dict[str, Any]:
    """A small pipeline over such a stream; top-level sections can be replaced, ``None`` removes one."""
    tree: dict[str, Any] = {
        "pipeline": {"name": "drifting"},
        "data": {
            "dataset_id": "drifting",
            "source": {"format": "parquet", "path": "data", "timestamp": "timestamp", "label": "label"},
        },
        "model": {"id": "MLP", "config": {"in_features": 4, "hidden": [16], "num_classes": 2}},
        "trigger": {"id": "TimeTrigger", "every": "3d"},
        "training": {"epochs_per_trigger": 3, "batch_size": 16, "threads": 1, "seed": 7},
        "evaluation": {
            "handlers": [
                {
                    "name": "daily",
                    "models": "matrix",
                    "strategy": {"type": "SlicingEvalStrategy", "eval_every": "1d"},
                }
            ]
        },
    }
    tree.update(changes)
    return {key: value for key, value in tree.items() if value is not None}


def write_pipeline(folder: Path, **changes: Any) -> Path:
    """The pipeline as ``pipeline.yaml`` in a folder."""
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline_tree(**changes), sort_keys=False))
    return path


def project(folder: Path, table: pa.Table | None = None, **changes: Any) -> Path:
    """A folder with data and a pipeline; answers the pipeline's path."""
    write_daily_files(folder / "data", drifting_table() if table is None else table)
    return write_pipeline(folder, **changes)
