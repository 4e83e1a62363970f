"""The job behind metrics with code of the user: it sees labels and what was said of samples, and no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from modyn.core.config.problems import parse_plugin
from modyn.core.plugins.evaluation import METRICS, Metric, Outcomes
from modyn.core.values import from_value
from modyn.evaluator.handover import read_subject
from modyn.evaluator.job import Emit, seed_all
from modyn.evaluator.metric_code import MetricCode
from modyn.evaluator.window_values import said
from modyn.proto.evaluator_pb2 import ClassValue, ScoredWindow, ScoringAnswer, ScoringDone, ScoringJob, ScoringTask

Receive = Callable[[], bytes | None]


def run(payload: bytes, emit: Emit, receive: Receive) -> None:
    """Entry point: scores what serialised :class:`ScoringTask` messages say until there are no more; told first is a
    :class:`ScoringJob`. Each value is sent as soon as it is known."""
    job = ScoringJob.FromString(payload)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    cpu = torch.device("cpu")
    metrics = [parse_plugin(METRICS, from_value(value), "metrics") for value in job.metrics]
    code = MetricCode(job.code.root if job.code.HasField("root") else None, lambda: seed_all(job.seed, cpu))
    while (message := receive()) is not None:
        for window in scored(ScoringTask.FromString(message), metrics, code):
            emit(ScoringAnswer(window=window).SerializeToString())
        emit(ScoringAnswer(done=ScoringDone()).SerializeToString())


def scored(task: ScoringTask, metrics: Sequence[Metric], code: MetricCode) -> Iterator[ScoredWindow]:
    """One answer for each metric of the task, subset and window with samples."""
    subject = read_subject(task)
    for subset in subject.subsets():
        for window in range(len(subset.places)):
            outcomes = locked(subset.windowed.window(window))
            for number in task.metrics:
                yield ScoredWindow(
                    metric=number, subset=subset.name, window=window, **_fields(metrics[number], outcomes, code)
                )


def locked(outcomes: Outcomes) -> Outcomes:
    """The same, but its arrays cannot be written to: what one metric did to them, others would see, too."""
    for array in (outcomes.labels, outcomes.predictions, outcomes.scores, outcomes.targets):
        if array is not None:
            array.flags.writeable = False
    return outcomes


def _fields(metric: Metric, outcomes: Outcomes, code: MetricCode) -> dict[str, Any]:
    """What came of it: value and classes, or failure."""
    try:
        values = code.values(metric, outcomes)
    except Exception as error:  # noqa: BLE001 - it is told to the user
        return {"failure": said(metric, error)}
    classes = [ClassValue(label=label, value=value) for label, value in values.classes.items()]
    return {"value": values.value, "classes": classes}
