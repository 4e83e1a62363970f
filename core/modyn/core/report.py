"""``report.json``: what a pipeline did and what it was worth.

The schema is versioned. Fields marked ``x-volatile`` (clocks, durations, ids, reuse) may differ between two runs
of one pipeline on the same data; all others are equal.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from modyn.core.versions import REPORT_SCHEMA_VERSION

X_VOLATILE = "x-volatile"


def volatile(default: Any = ..., *, description: str | None = None) -> Any:
    """A field that may differ between two runs of the same pipeline."""
    return Field(default, description=description, json_schema_extra={X_VOLATILE: True})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PipelinePart(_Part):
    """The pipeline and how it ended."""

    id: str = volatile()
    name: str
    description: str | None = None
    version: str | None = None
    dataset: str
    status: str
    error: str | None = None
    notices: list[str] = volatile([])
    created_at: float = volatile(description="Unix seconds.")
    ended_at: float | None = volatile(None, description="Unix seconds.")


class RunPart(_Part):
    """How the pipeline was run."""

    mode: str = Field(description="replay or live")
    order: str = Field(description="event or arrival")
    start: int | None = None
    stop: int | None = None
    start_key: int | None = None
    end_key: int | None = None
    maximum_triggers: int | None = None
    seed: int
    samples_seen: int
    first_timestamp: int | None = None
    last_timestamp: int | None = None


class TriggerSeconds(_Part):
    """Where the time of a trigger went, in seconds."""

    select: float = volatile()
    start: float = volatile(description="From the request to the first training batch, selection excluded.")
    train: float = volatile(description="The training loop; of the original training if it was reused.")
    store: float = volatile()
    evaluate: float = volatile()
    total: float = volatile(description="From the firing until the next data are looked at.")


class TriggerPart(_Part):
    """One trigger."""

    index: int
    timestamp: int = Field(description="Data clock when it fired, Unix seconds.")
    reason: str
    new_samples: int
    samples: int = Field(description="In the training set.")
    unlabelled: int = Field(description="New or old samples left out because they have no label.")
    first_timestamp: int | None = Field(description="Of the new data.")
    last_timestamp: int | None = Field(description="Largest of all data handed to the selector so far, inclusive.")
    training_set: str | None = Field(description="Content digest; null if there was nothing to train on.")
    model: str | None = Field(description="Content digest of the weights.")
    samples_trained: int = Field(description="Passes over samples.")
    batches: int
    final_loss: float | None = Field(description="Mean training loss of the last epoch.")
    reused: bool = volatile()
    first_batch_ms: float | None = volatile(description="From the firing to the first training batch.")
    seconds: TriggerSeconds


class CompositeScore(_Part):
    """One metric of the composite model over the windows of a handler."""

    currently_active: float | None
    currently_trained: float | None
    currently_active_time_weighted: float | None
    currently_trained_time_weighted: float | None
    windows_scored: int
    windows_empty: int
    windows_without_model: int
    windows_undefined: int = Field(description="With samples and a model, but the metric has no value or is unknown.")
    baselines: dict[str, float | None] = Field(
        description="Mean of no-model predictions over the windows that the currently active score counts."
    )


class WindowScore(_Part):
    """One metric on one window."""

    currently_active: float | None
    currently_trained: float | None
    baselines: dict[str, float | None]


class WindowPart(_Part):
    """One evaluation window [start, end)."""

    handler: str
    dataset: str
    start: int
    end: int
    anchor: int
    samples: int = Field(description="Labelled samples in it.")
    unlabelled: int
    active_trigger: int | None = Field(description="Trigger whose model is currently active at the anchor.")
    trained_trigger: int | None
    scores: dict[str, WindowScore] = Field(description="By metric.")


class ModelScore(_Part):
    """One model on one window (one cell of the model x window matrix)."""

    handler: str
    dataset: str
    trigger: int
    start: int
    end: int
    samples: int
    metrics: dict[str, float | None]


class CostPart(_Part):
    """What it cost. Reused results count with their original cost."""

    trainings: int
    trainings_reused: int = volatile()
    samples_trained: int
    train_seconds: float = volatile()
    evaluate_seconds: float = volatile()
    select_seconds: float = volatile()
    trigger_seconds: float = volatile(description="Spent in the triggering policy.")
    ingest_seconds: float = volatile()
    wall_seconds: float = volatile()


class FixedCostPart(_Part):
    """What a trigger costs beyond the work itself."""

    first_batch_ms_median: float | None = volatile(description="Firing to first training batch; reused ones left out.")
    overhead_seconds: float = volatile(description="Wall time of the pipeline less training and evaluation compute.")


class Report(_Part):
    """The whole report."""

    schema_version: int = REPORT_SCHEMA_VERSION
    modyn_version: str
    pipeline: PipelinePart
    run: RunPart
    triggers: list[TriggerPart]
    composite: dict[str, dict[str, dict[str, CompositeScore]]] = Field(description="By handler, dataset and metric.")
    windows: list[WindowPart]
    evaluations: list[ModelScore]
    failures: list[str] = Field(description="Evaluations that failed; everything else was finished.")
    cost: CostPart
    fixed_cost: FixedCostPart


def without_volatile(report: Report) -> dict[str, Any]:
    """The part of a report that two runs of one pipeline on the same data share."""
    return _strip(report)


def _strip(part: BaseModel) -> dict[str, Any]:
    fields = type(part).model_fields
    kept: dict[str, Any] = {}
    for name, field in fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get(X_VOLATILE)):
            kept[name] = _strip_value(getattr(part, name))
    return kept


def _strip_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _strip(value)
    if isinstance(value, list):
        return [_strip_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _strip_value(item) for key, item in value.items()}
    return value
