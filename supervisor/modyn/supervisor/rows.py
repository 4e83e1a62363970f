"""What stands in the supervisor's tables, a type for each (see ``tables.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from modyn.core.plugins.evaluation import Window
from modyn.core.plugins.triggers import Evaluation
from modyn.core.report import BaselineKind

CertificationKind: TypeAlias = Literal["certified", "cross_validation"]

BASELINE_PREFIX = "baseline:"
"""Of the subjects of scores that are baselines."""

TRIGGER_PREFIX = "trigger:"
"""Of those that are models."""


@dataclass(frozen=True)
class PipelineRow:
    """A pipeline as journaled.

    Attributes:
        evaluated_extents: by evaluation dataset, how much of it handlers of the YAML look at; see ``handlers.Extent``.
        evaluate_later_seconds: part of ``evaluate_seconds`` that was spent when the pipeline had ended.
    """

    id: int
    name: str
    dataset: str
    status: str
    live: bool
    resolved_yaml: str
    replay_order: str
    created_at: float
    notices: list[str]
    simulated: bool = False
    start_time: int | None = None
    stop_time: int | None = None
    start_key: int | None = None
    end_key: int | None = None
    maximum_triggers: int | None = None
    baseline_of: int | None = None
    baseline: BaselineKind | None = None
    code_root: str | None = None
    ended_at: float | None = None
    error: str | None = None
    input_error: bool | None = None
    samples_seen: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    cursor: int | None = None
    trigger_state: dict[str, Any] | None = None
    ingest_seconds: float = 0.0
    trigger_seconds: float = 0.0
    trigger_embedded: int = 0
    trigger_predicted: int = 0
    evaluate_seconds: float = 0.0
    evaluate_reused_seconds: float = 0.0
    evaluate_later_seconds: float = 0.0
    evaluate_bytes: int = 0
    evaluate_samples: int = 0
    evaluate_samples_reused: int = 0
    evaluated_extents: dict[str, Any] | None = None


@dataclass(frozen=True)
class TriggerRow:
    """A trigger that is done, or whose training failed.

    Attributes:
        training_seconds: from the request to the stored model; of the original training if it was reused. None: of a
            release that did not note it, or nothing was trained.
        gpu_seconds: GPUs held times seconds; likewise of the original training.
        bytes_read: payload that the training read; likewise.
        model_bytes: what storage keeps for the model.
        error: why its training failed.
    """

    trigger_index: int
    timestamp: int
    reason: str
    new_samples: int
    samples: int = 0
    unlabelled: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    training_set: str | None = None
    model: str | None = None
    input_digest: str | None = None
    samples_trained: int = 0
    batches: int = 0
    final_loss: float | None = None
    reused: bool = False
    first_batch_ms: float | None = None
    select_seconds: float = 0.0
    start_seconds: float = 0.0
    train_seconds: float = 0.0
    store_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    total_seconds: float = 0.0
    downsampling: str | None = None
    trained: str | None = None
    samples_offered: int = 0
    samples_scored: int = 0
    scores_reused: int = 0
    auxiliary_samples: int = 0
    score_seconds: float = 0.0
    choose_seconds: float = 0.0
    auxiliary_seconds: float = 0.0
    training_seconds: float | None = None
    gpu_seconds: float = 0.0
    bytes_read: int = 0
    model_bytes: int = 0
    error: str | None = None

    @property
    def latency_seconds(self) -> float:
        """From the firing until its model could have been live, had no earlier training been under way."""
        if self.training_seconds is None:  # the start is by two clocks, of which one may have been set back
            return self.select_seconds + max(self.start_seconds, 0.0) + self.train_seconds + self.store_seconds
        return self.select_seconds + self.training_seconds


@dataclass(frozen=True)
class TrainedRow:
    """What a trigger that trained a model left in other services: digests.

    Attributes:
        trained: of the record of what was really trained; None: the whole training set.
    """

    pipeline_id: int
    trigger_index: int
    training_set: str
    model: str
    trained: str | None


@dataclass(frozen=True)
class EvaluationRow:
    """Why a trigger fired, or did not; see ``tables.EVALUATIONS``.

    Attributes:
        number: 0, 1, 2 … within the pipeline.
        trigger_index: of the trigger that it fired, or None.
    """

    number: int
    trigger_index: int | None
    evaluation: Evaluation


@dataclass(frozen=True)
class WindowRow:
    """A window of a handler on a dataset, and how many samples it has.

    Attributes:
        certification: whether all samples are for tests only; None: no samples, or not noted.
        data_digest: of keys and labels, and of what storage holds of the samples.
        baselines: whether every baseline was scored on it.
    """

    handler: str
    dataset: str
    window: Window
    samples: int
    unlabelled: int
    certification: CertificationKind | None = None
    data_digest: str | None = None
    baselines: bool = False


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one subject (``trigger:<index>`` or ``baseline:<name>``) on one window.

    Attributes:
        low, high: of its confidence interval, if there is one.
    """

    handler: str
    dataset: str
    window: Window
    subject: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ConfusionRow:
    """How often labels met predictions of one subject on one window: triples (label, prediction, count)."""

    handler: str
    dataset: str
    window: Window
    subject: str
    counts: list[tuple[int, int, int]]


@dataclass(frozen=True)
class OffsetRow:
    """A window that belongs to the model of one trigger, and how it lies to that one's training data."""

    handler: str
    dataset: str
    window: Window
    trigger_index: int
    offset: str


@dataclass(frozen=True)
class MetricRow:
    """What the scores of a metric of a handler on a dataset mean."""

    handler: str
    dataset: str
    metric: str
    digest: str
    greater_is_better: bool


@dataclass(frozen=True)
class FailureRow:
    """What could not be scored.

    Attributes:
        id: given by the journal.
        trigger_index: whose model; None: whatever the model.
        start, end: of the window; None: on all of them.
        metric: None: all metrics.
    """

    message: str
    id: int = 0
    handler: str | None = None
    dataset: str | None = None
    trigger_index: int | None = None
    start: int | None = None
    end: int | None = None
    metric: str | None = None


@dataclass(frozen=True)
class HandlerRow:
    """An evaluation handler that was added when the pipeline had ended: plain trees, as in YAML.

    Attributes:
        config: the handler.
        datasets: ``evaluation.datasets``, resolved.
        section: the other keys of the evaluation section.
        extents: as of a pipeline.
        created_at: Unix seconds.
    """

    name: str
    config: dict[str, Any]
    datasets: list[dict[str, Any]]
    section: dict[str, Any]
    extents: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0


@dataclass(frozen=True)
class EvaluationCost:
    """What an evaluation took.

    Attributes:
        seconds: predicting and scoring now.
        reused_seconds: what the predictions that were reused once took.
        bytes_read: payload from storage.
        samples, samples_reused: predictions, reused ones included; of them those made earlier.
        later: the pipeline had ended.
    """

    seconds: float = 0.0
    reused_seconds: float = 0.0
    bytes_read: int = 0
    samples: int = 0
    samples_reused: int = 0
    later: bool = False


def trigger_subject(index: int) -> str:
    """The subject of scores of a trigger's model."""
    return f"{TRIGGER_PREFIX}{index}"


def trigger_of(subject: str) -> int | None:
    """The trigger whose model a subject is; None for a baseline."""
    return int(subject.removeprefix(TRIGGER_PREFIX)) if subject.startswith(TRIGGER_PREFIX) else None


def baseline_subject(name: str) -> str:
    """The subject of scores of a baseline."""
    return BASELINE_PREFIX + name
