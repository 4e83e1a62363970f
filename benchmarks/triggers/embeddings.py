"""How often a drift trigger has a model look at each sample."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.results import Result
from modyn.client import Client

NUM_SAMPLES = 100_000
NUM_COLUMNS = 8

_PIPELINE = f"""
pipeline: {{name: embeddings}}
data:
  dataset_id: noise
  source: {{format: parquet, path: data, timestamp: timestamp, label: label, settle_seconds: 0}}
model:
  id: MLP
  config: {{in_features: {NUM_COLUMNS}, hidden: [32], num_classes: 2}}
trigger:
  id: DataDriftTrigger
  evaluation_interval_data_points: 1000
  metrics:
    mmd: {{id: MMD, decision_criterion: {{id: ThresholdDecisionCriterion, threshold: 1.0e9}}}}
training:
  batch_size: 256
  optimizers: [{{algorithm: SGD, param_groups: [{{config: {{lr: 0.1}}}}]}}]
"""


def embeddings_per_sample() -> Result:
    """Looks every 1,000 of 100,000 samples, with windows of 1,000; the first look trains the only model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "data")
        pipeline = folder / "pipeline.yaml"
        pipeline.write_text(_PIPELINE)
        with Client.embedded(folder / "state") as client:
            pipeline_id = client.submit(pipeline)
            client.wait(pipeline_id)
            report = client.report(pipeline_id)
    cost = report.cost
    looks, models = len(report.trigger_evaluations), cost.trainings
    return Result(
        value=cost.trigger_samples_embedded / NUM_SAMPLES,
        unit="passes",
        baseline=f"{NUM_SAMPLES:,} samples, {looks} evaluations, {models} model: "
        f"{cost.trigger_samples_embedded:,} samples embedded",
        target=1.0,
    )


def _write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    columns = {f"x{index}": rng.standard_normal(NUM_SAMPLES, dtype=np.float32) for index in range(NUM_COLUMNS)}
    times = {"timestamp": np.arange(NUM_SAMPLES), "label": rng.integers(0, 2, NUM_SAMPLES)}
    parquet.write_table(pa.table(columns | times), folder / "all.parquet")
