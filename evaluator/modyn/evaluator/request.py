"""An evaluation request, checked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_plugin, parse_section
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, Metric
from modyn.core.values import from_value
from modyn.proto.common_pb2 import Interval
from modyn.proto.evaluator_pb2 import CheckEvaluationRequest, EvaluateRequest, ObserveSession

FIRST_SECOND, LAST_SECOND = -(2**63), 2**63 - 1
"""Stand for the open ends of an interval."""

_PIPELINE_ID = re.compile(r"[\w.-]+")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class Span:
    """Event times ``start <= t < end``."""

    start: int
    end: int


@dataclass(frozen=True)
class Evaluation:
    """What to score.

    Attributes:
        windows: event-time spans; open ends are :data:`FIRST_SECOND` and :data:`LAST_SECOND`.
        models: content digest of each model -> the windows (indices) to score it on, ascending.
        root: folder of user code, or None.
        end_key: samples from this key on are ignored.
        labels_as_known: each window is scored with the labels that were known at its end; else with the newest ones.
        label_delay: seconds after its event time that a label which came with its sample is known.
        confidence: level of the intervals of scores; None: there are none.
        slices: payload columns; samples are scored by the values of each, too.
        confusion: count labels against predictions.
        test_only: only samples of role ``test`` are scored.
    """

    pipeline_id: str
    dataset: str
    data: DataSection
    model: ModelSection
    metrics: tuple[Metric, ...]
    windows: tuple[Span, ...]
    models: dict[str, tuple[int, ...]]
    batch_size: int
    device: str
    threads: int
    reuse: bool
    baselines: bool
    root: str | None
    end_key: int | None
    seed: int
    labels_as_known: bool = False
    label_delay: int = 0
    confidence: float | None = None
    slices: tuple[str, ...] = ()
    confusion: bool = False
    test_only: bool = False

    @property
    def needs_scores(self) -> bool:
        """Whether predicted classes are not enough for some metric."""
        return any(metric.needs_scores for metric in self.metrics)

    @property
    def needs_numbers(self) -> bool:
        """Whether some metric takes labels as numbers."""
        return any(metric.labels_are == "numbers" for metric in self.metrics)

    @property
    def needs_classes(self) -> bool:
        """Whether some metric takes labels as classes."""
        return any(metric.labels_are == "classes" for metric in self.metrics)


def parse_request(request: EvaluateRequest) -> Evaluation:
    """The request as a value object.

    Raises:
        InvalidInputError: something in it is wrong.
    """
    check_common(request)
    return Evaluation(
        pipeline_id=request.pipeline_id,
        dataset=request.dataset,
        data=parse_data(request),
        model=parse_section(ModelSection, from_value(request.model), "model"),
        metrics=parse_metrics(request),
        windows=tuple(_span(window.interval) for window in request.windows),
        models=_models(request),
        batch_size=request.batch_size,
        device=request.device or "cpu",
        threads=default_threads(request),
        reuse=request.reuse,
        baselines=request.baselines,
        root=request.code.root if request.code.HasField("root") else None,
        end_key=request.end_key if request.HasField("end_key") else None,
        seed=request.seed,
        labels_as_known=request.labels_as_known,
        label_delay=_label_delay(request),
        confidence=_confidence(request),
        slices=_slices(request),
        confusion=request.confusion,
        test_only=request.test_only,
    )


def default_threads(request: EvaluateRequest | CheckEvaluationRequest) -> int:
    """As many as asked for, or all there are."""
    return request.threads if request.HasField("threads") else os.cpu_count() or 1


def parse_data(request: EvaluateRequest | ObserveSession | CheckEvaluationRequest) -> DataSection:
    """Parser and transformations; other keys of an evaluation dataset do not matter here."""
    tree = from_value(request.data) or {}
    known = {key: value for key, value in tree.items() if key in DataSection.model_fields}
    known.setdefault("dataset_id", request.dataset)
    return parse_section(DataSection, known, "evaluation dataset")


def check_common(request: EvaluateRequest | ObserveSession | CheckEvaluationRequest) -> None:
    """What all kinds of requests have to obey.

    Raises:
        InvalidInputError: something is out of range.
    """
    if _PIPELINE_ID.fullmatch(request.pipeline_id) is None or request.pipeline_id.startswith("."):
        raise InvalidInputError(f"pipeline_id {request.pipeline_id!r}: expected letters, digits, '_', '-' and '.'")
    if not request.dataset:
        raise InvalidInputError("dataset: expected the name of a dataset, got an empty one")
    if request.batch_size < 1:
        raise InvalidInputError(f"batch_size {request.batch_size}: expected at least 1")
    if request.HasField("threads") and request.threads < 1:
        raise InvalidInputError(f"threads {request.threads}: expected at least 1")
    if request.device and _DEVICE.fullmatch(request.device) is None:
        raise InvalidInputError(f"device {request.device!r}: expected cpu, cuda or cuda:<number>")


def parse_metrics(request: EvaluateRequest | CheckEvaluationRequest) -> tuple[Metric, ...]:
    """At least one metric, each under a name of its own.

    Raises:
        InvalidInputError: something in them is wrong.
    """
    metrics = tuple(parse_plugin(METRICS, from_value(value) or {}, "metrics") for value in request.metrics)
    if not metrics:
        raise InvalidInputError(f"metrics: expected at least one of {', '.join(METRICS.names())}")
    names = [metric.result_name for metric in metrics]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"metrics: {names.count(name)} of them report {name!r}; keep one")
    return metrics


def _label_delay(request: EvaluateRequest) -> int:
    if request.label_delay < 0:
        raise InvalidInputError(f"label_delay {request.label_delay}: expected at least 0 seconds")
    return request.label_delay


def _confidence(request: EvaluateRequest) -> float | None:
    if not request.HasField("confidence"):
        return None
    if not 0.5 < request.confidence < 1:
        raise InvalidInputError(f"confidence {request.confidence}: expected a level between 0.5 and 1, such as 0.95")
    return request.confidence


def _slices(request: EvaluateRequest) -> tuple[str, ...]:
    columns = tuple(request.slices)
    for column in columns:
        if not column or columns.count(column) > 1:
            raise InvalidInputError(f"slices {list(columns)}: expected names of payload columns, each once")
    return columns


def _span(interval: Interval) -> Span:
    start = interval.start if interval.HasField("start") else FIRST_SECOND
    end = interval.end if interval.HasField("end") else LAST_SECOND
    if end <= start:
        raise InvalidInputError(f"window [{start}, {end}) is empty; expected start < end")
    return Span(start, end)


def _models(request: EvaluateRequest) -> dict[str, tuple[int, ...]]:
    models: dict[str, set[int]] = {}
    for entry in request.models:
        wrong = [index for index in entry.windows if index >= len(request.windows)]
        if wrong:
            raise InvalidInputError(
                f"model {entry.model}: there is no window {wrong[0]}; expected 0 to {len(request.windows) - 1}"
            )
        models.setdefault(entry.model, set()).update(entry.windows)
    return {model: tuple(sorted(windows)) for model, windows in models.items()}
