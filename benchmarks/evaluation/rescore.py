"""New windows over predictions that are stored: no model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np

from benchmarks.evaluation.digits import Asker
from benchmarks.results import Result
from benchmarks.storage.server import temporary_folder
from benchmarks.storage.timing import say
from modyn.client import Client
from modyn.core.arrow import batch_of
from modyn.storage.reader import append

NAMES = ("evaluation.rescore_s", "evaluation.rescore_auc_s")

SAMPLES = 10_000_000
WINDOWS = 50
ROUNDS = 5
DATASET = "numbers"
MODEL: dict[str, Any] = {"id": "MLP", "config": {"in_features": 1, "hidden": [], "num_classes": 2}}
CLASSES: list[dict[str, Any]] = [{"name": "Accuracy"}, {"name": "F1Score", "num_classes": 2}]
RANKING: list[dict[str, Any]] = [{"name": "RocAuc"}]


def measure() -> dict[str, Result]:
    """Seconds of a request about windows that were never asked for, over samples that all have a stored prediction."""
    with _numbers() as server:
        model = server.store(1)
        made, done = server.ask([model], [(0, SAMPLES)], RANKING, reuse=True)
        say(f"{done.predictions:,} predictions made in {made:.1f} s")
        first, _ = server.ask([model], _windows(ROUNDS), CLASSES, reuse=True)
        results = {}
        for name, metrics, what, target in (
            (NAMES[0], CLASSES, "accuracy and F1", 1.0),
            (NAMES[1], RANKING, "ROC-AUC", 5.0),
        ):
            seconds = []
            for number in range(ROUNDS):
                took, done = server.ask([model], _windows(number), metrics, reuse=True)
                if done.predictions or done.reused_predictions < SAMPLES * 0.9:
                    raise AssertionError(f"{done.predictions} predictions made, {done.reused_predictions} reused")
                seconds.append(took)
            baseline = (
                f"{what} of one model on {WINDOWS} new windows over {SAMPLES:,} stored outcomes, with intervals and "
                f"confusion matrices where they are had, without baselines; median of {ROUNDS} requests, "
                f"{min(seconds):.3g} to {max(seconds):.3g} s; timestamps and labels are still in memory from the one "
                f"before, the outcome file is checked (the first request of all for accuracy and F1: {first:.3g} s)"
            )
            results[name] = Result(median(seconds), "s", baseline, target)
    return results


def _windows(number: int) -> list[tuple[int, int]]:
    step = SAMPLES // (WINDOWS + 1)
    return [(start + number, start + number + step) for start in range(0, WINDOWS * step, step)]


@contextmanager
def _numbers() -> Iterator[Asker]:
    """A server with samples of one number each, one a second, that tells something of the class."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal(SAMPLES, dtype=np.float32)
    labels = (values + rng.standard_normal(SAMPLES, dtype=np.float32) > 0).astype(np.int64)
    with temporary_folder() as folder, Client.embedded(folder / "state", what="a benchmark") as client:
        client.register_dataset(DATASET)
        step = 1_000_000
        parts = (slice(start, start + step) for start in range(0, SAMPLES, step))
        append(
            client._peers.storage,
            DATASET,
            "all",
            (batch_of(timestamp=np.arange(p.start, p.stop), label=labels[p], x0=values[p]) for p in parts),
        )
        yield Asker(client._peers, DATASET, MODEL, {}, batch_size=65_536)
