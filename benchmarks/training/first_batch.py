"""From a trigger to the first batch of its training, in a private server that is warm."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.results import Result
from benchmarks.storage.server import temporary_folder
from benchmarks.storage.timing import say
from benchmarks.training.small import client_with, finished, pipeline_of
from modyn.client import Client

NAMES = ("training.first_batch_ms",)

SMALL, LARGE = 10_000, 10_000_000
PER_TRIGGER = 500
TRIGGERS = 20
WARM_UP = 2
"""Triggers that do not count."""


def measure() -> dict[str, Result]:
    """The worst of several medians: few and many samples in the dataset, in the training set, and past triggers."""
    medians = _medians()
    text = ", ".join(f"{what}: {value:.0f} ms" for what, value in medians.items())
    baseline = f"trigger fired to first training batch, MLP 8-32-2, embedded, medians over triggers; {text}"
    return {NAMES[0]: Result(max(medians.values()), "ms", baseline, target=60)}


def _medians() -> dict[str, float]:
    found = {}
    with temporary_folder() as folder, client_with(folder, SMALL) as client:
        each = _first_batches(client, PER_TRIGGER, TRIGGERS)
        half = len(each) // 2
        found[f"{PER_TRIGGER} of {SMALL:,} samples, triggers {WARM_UP} to {WARM_UP + half - 1}"] = median(each[:half])
        found[f"triggers {WARM_UP + half} to {TRIGGERS - 1}"] = median(each[half:])
    with temporary_folder() as folder, client_with(folder, LARGE) as client:
        found[f"{PER_TRIGGER} of {LARGE:,}"] = median(_first_batches(client, PER_TRIGGER, TRIGGERS))
        # Each is another pipeline, as a trigger of so many samples fires once.
        whole = [_first_batches(client, LARGE, 1, num_samples_to_pass=[PER_TRIGGER]) for _ in range(WARM_UP + 3)]
        found[f"all {LARGE:,}"] = median(value for values in whole[WARM_UP:] for value in values)
    return found


def _first_batches(client: Client, per_trigger: int, triggers: int, **training: Any) -> list[float]:
    report = finished(client, pipeline_of(per_trigger, **training), triggers)
    values = [trigger.first_batch_ms for trigger in report.triggers if trigger.first_batch_ms is not None]
    assert len(values) == triggers, report.pipeline
    say(f"first batches, {per_trigger} samples a trigger: {', '.join(f'{value:.0f}' for value in values)} ms")
    return values[WARM_UP:] if triggers > WARM_UP else values
