"""What a trigger takes beyond its training loop: selecting, starting, storing, bookkeeping."""

from __future__ import annotations

from statistics import median

from benchmarks.results import Result
from benchmarks.storage.server import temporary_folder
from benchmarks.training.small import client_with, finished, pipeline_of

NAMES = ("training.fixed_cost_ms",)

TRIGGERS, PER_TRIGGER = 50, 500


def measure() -> dict[str, Result]:
    """Median over triggers; what a pipeline takes outside of them is shared out among all."""
    pipeline = pipeline_of(PER_TRIGGER)
    with temporary_folder() as folder, client_with(folder, TRIGGERS * PER_TRIGGER) as client:
        finished(client, pipeline, 3)
        report = finished(client, pipeline, TRIGGERS)
    each = [trigger.seconds.total - trigger.seconds.train for trigger in report.triggers]
    assert len(each) == TRIGGERS, report.pipeline
    between = (report.cost.wall_seconds - sum(trigger.seconds.total for trigger in report.triggers)) / TRIGGERS
    baseline = (
        f"median over {TRIGGERS} triggers of {PER_TRIGGER} samples of the trigger's time less its training loop, MLP "
        f"8-32-2, embedded, and {1e3 * between:.1f} ms that the pipeline takes besides, for each"
    )
    return {NAMES[0]: Result(1e3 * (median(each) + between), "ms", baseline, target=150)}
