"""Does downsampling pay? Seconds of a training with a 50 % policy over those of a training on all samples."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from pyarrow import parquet

from benchmarks.results import Result
from modyn.client import Client
from modyn.core.report import Report

DIGITS = Path(__file__).parents[3] / "shared" / "data" / "mnist_test_10k.npz"
TRAIN = 8_000
"""The digits that are trained on; the other 2,000 say how accurate the model is."""

ROUNDS = 3
EPOCHS = 5
RATIO: dict[str, Any] = {"ratio": 50}
ONCE: dict[str, Any] = {"sample_then_batch": True, "period": 0}
"""Scores are those of the model that a trigger starts with; what scoring in each epoch costs stands beside."""

POLICIES: dict[str, dict[str, Any] | None] = {
    "all": None,
    "uniform": {"strategy": "Uniform", **RATIO},
    "infobatch": {"strategy": "InfoBatch", **RATIO},
    "loss": {"strategy": "Loss", **RATIO, **ONCE},
    "gradnorm": {"strategy": "GradNorm", **RATIO, **ONCE},
    "loss, scored in each epoch": {"strategy": "Loss", **RATIO, "sample_then_batch": True},
    "gradnorm, scored in each epoch": {"strategy": "GradNorm", **RATIO, "sample_then_batch": True},
}
TARGETS = {"uniform": 0.55, "infobatch": 0.75, "loss": 0.9, "gradnorm": 0.9}


def measure() -> dict[str, Result]:
    """Runs every policy once a round, in turns, through a whole pipeline with one trigger."""
    if not DIGITS.exists():
        raise FileNotFoundError(f"{DIGITS}: this benchmark needs the MNIST digits there")
    seconds: dict[str, list[float]] = {name: [] for name in POLICIES}
    accuracy: dict[str, list[float]] = {name: [] for name in POLICIES}
    passes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "data")
        with Client.embedded(folder / "state") as client:
            for seed in range(ROUNDS):
                for policy, strategy in POLICIES.items():
                    report = _run(client, folder, strategy, seed)
                    trigger = report.triggers[0].seconds
                    seconds[policy].append(trigger.start + trigger.train + trigger.store)
                    accuracy[policy].append(_accuracy(report))
                    passes[policy] = report.cost.samples_trained
    return {
        f"selection.pays_{name}": Result(
            value=median(ours / full for ours, full in zip(seconds[name], seconds["all"], strict=True)),
            unit="x",
            baseline=_described(name, seconds, accuracy, passes),
            target=target,
        )
        for name, target in TARGETS.items()
    }


def _described(
    name: str, seconds: dict[str, list[float]], accuracy: dict[str, list[float]], passes: dict[str, int]
) -> str:
    names = ["all", name, *(other for other in POLICIES if other.startswith(f"{name}, "))]
    parts = (
        f"{other}: {median(seconds[other]):.2f} s, {passes[other]:,} passes, accuracy {np.mean(accuracy[other]):.4f}"
        for other in names
    )
    return f"small CNN, {TRAIN:,} digits, {EPOCHS} epochs, median of {ROUNDS} seeds; " + "; ".join(parts)


def _accuracy(report: Report) -> float:
    (scores,) = report.composite.values()
    value = scores["test"]["Accuracy"].currently_trained
    assert value is not None
    return value


def _run(client: Client, folder: Path, strategy: dict[str, Any] | None, seed: int) -> Report:
    selection: dict[str, Any] = {"name": "CoresetStrategy", "tail_triggers": None}
    if strategy is not None:
        selection["downsampling_config"] = strategy
    source = {"format": "parquet", "timestamp": "timestamp", "label": "label", "settle_seconds": 0}
    parser = {
        "name": "image",
        "encoding": "raw",
        "height": 28,
        "width": 28,
        "channels": 1,
        "mean": [0.13],
        "std": [0.31],
    }
    pipeline = {
        "pipeline": {"name": "pays"},
        "data": {"dataset_id": "train", "source": {**source, "path": "data/train"}, "parser": parser},
        "model": {"id": "SmallCNN", "config": {"in_channels": 1, "channels": [16, 32], "num_classes": 10}},
        "trigger": {"id": "DataAmountTrigger", "num_samples": TRAIN},
        "selection_strategy": selection,
        "training": {"epochs_per_trigger": EPOCHS, "seed": seed},
        "evaluation": {
            "handlers": [
                {
                    "name": "after",
                    "models": "training",
                    "strategy": {"type": "StaticEvalStrategy", "intervals": [[0, 10]]},
                }
            ],
            "datasets": [
                {
                    "dataset_id": "test",
                    "source": {**source, "path": "data/test"},
                    "parser": parser,
                    "metrics": [{"name": "Accuracy"}],
                }
            ],
        },
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline))
    pipeline_id = client.submit(path, reuse=False)
    client.wait(pipeline_id)
    return client.report(pipeline_id)


def _write(folder: Path) -> None:
    digits = np.load(DIGITS)
    images, labels = digits["images"].reshape(-1, 784), digits["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    for name, rows in (("train", order[:TRAIN]), ("test", order[TRAIN:])):
        (folder / name).mkdir(parents=True)
        pixels = pa.array([image.tobytes() for image in images[rows]], pa.binary())
        times = np.arange(len(rows)) if name == "train" else np.arange(len(rows)) % 10
        table = pa.table({"image": pixels, "label": labels[rows], "timestamp": times})
        parquet.write_table(table, folder / name / "digits.parquet")
