"""A small model on rows of eight numbers, in a private server: what is left is what a trigger costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from modyn.client import Client
from modyn.core.report import Report

WIDTH = 8
DATASET = "rows"


def rows(count: int, first_timestamp: int = 0, seed: int = 5) -> pa.Table:
    """So many rows, one a second: a timestamp, a label of two classes, float32 ``x0`` to ``x7``."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((WIDTH, count), dtype=np.float32)
    columns: dict[str, Any] = {
        "timestamp": first_timestamp + np.arange(count),
        "label": (values[0] + values[1] > 0).astype(np.int64),
    }
    return pa.table(columns | {f"x{index}": column for index, column in enumerate(values)})


def pipeline_of(trigger_samples: int, source: dict[str, Any] | None = None, **training: Any) -> str:
    """YAML of a pipeline on the rows: an amount trigger, an MLP with 32 hidden units, batches of 64, one epoch."""
    data: dict[str, Any] = {"dataset_id": DATASET} | ({} if source is None else {"source": source})
    return yaml.safe_dump(
        {
            "pipeline": {"name": DATASET},
            "data": data,
            "model": {"id": "MLP", "config": {"in_features": WIDTH, "hidden": [32], "num_classes": 2}},
            "trigger": {"id": "DataAmountTrigger", "num_samples": trigger_samples},
            "training": {"batch_size": 64, **training},
        }
    )


@contextmanager
def client_with(folder: Path, count: int) -> Iterator[Client]:
    """A private server whose dataset has so many rows."""
    with Client.embedded(folder / "state", what="a benchmark") as client:
        client.register_dataset(DATASET)
        step = 1_000_000
        parts = ((start, min(step, count - start)) for start in range(0, count, step))
        client.append(DATASET, "all", (batch for start, size in parts for batch in rows(size, start).to_batches()))
        yield client


def finished(client: Client, pipeline: str, maximum_triggers: int) -> Report:
    """The report of a replay that was run to its end; nothing of earlier ones is used."""
    pipeline_id = client.submit(pipeline, maximum_triggers=maximum_triggers, reuse=False)
    client.wait(pipeline_id)
    return client.report(pipeline_id)
