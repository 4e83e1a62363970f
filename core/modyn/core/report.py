"""``report.json``: what a pipeline did and what it was worth.

The schema is versioned. Fields marked ``x-volatile`` (clocks, durations, ids, reuse) may differ between two runs
of one pipeline on the same data; all others are equal. One file, because it is one document.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from modyn.core.versions import REPORT_SCHEMA_VERSION

X_VOLATILE = "x-volatile"

BaselineKind: TypeAlias = Literal["uniform", "fewer_epochs"]
"""What a downsampling strategy is compared with at equal compute: as many uniformly drawn samples in the same number of
epochs, or all samples in fewer epochs."""


def volatile(default: Any = ..., *, description: str | None = None) -> Any:
    """A field that may differ between two runs of the same pipeline."""
    return Field(default, description=description, json_schema_extra={X_VOLATILE: True})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PipelinePart(_Part):
    """The pipeline and how it ended."""

    id: str = volatile(description="As `modyn-client list` shows it.")
    name: str = Field(description="`pipeline.name` of the YAML.")
    description: str | None = Field(None, description="`pipeline.description`.")
    version: str | None = Field(None, description="`pipeline.version`.")
    dataset: str = Field(description="`data.dataset_id`.")
    status: str = Field(description="completed, stopped, failed, interrupted, or where it is now.")
    error: str | None = Field(None, description="Why it failed.")
    baseline: BaselineKind | None = Field(None, description="Which baseline it is, if it was trained beside another.")
    baseline_of: str | None = volatile(None, description="Id of that other pipeline.")
    notices: list[str] = volatile([], description="What the user was told, such as keys without effect.")
    created_at: float = volatile(description="Unix seconds.")
    ended_at: float | None = volatile(None, description="Unix seconds.")


class RunPart(_Part):
    """How the pipeline was run."""

    mode: str = Field(description="replay or live")
    order: str = Field(description="event or arrival")
    simulated: bool = Field(False, description="Only the trigger ran; nothing was trained.")
    start: int | None = Field(None, description="Replay from here on, Unix seconds; null: from the first sample.")
    stop: int | None = Field(None, description="Replay up to here, exclusive, Unix seconds; null: to the last sample.")
    start_key: int | None = Field(None, description="Only samples from this key on.")
    end_key: int | None = Field(None, description="Only samples before this key.")
    maximum_triggers: int | None = Field(None, description="No trigger after this many.")
    seed: int = Field(description="`training.seed`.")
    samples_seen: int = Field(description="How many samples the trigger was shown.")
    first_timestamp: int | None = Field(None, description="Smallest event time seen.")
    last_timestamp: int | None = Field(None, description="Largest event time seen.")


class TriggerSeconds(_Part):
    """Where the time of a trigger went, in seconds."""

    select: float = volatile(description="The selection policy, and writing the training set.")
    start: float = volatile(description="From the request to the first training batch, selection excluded.")
    train: float = volatile(description="The training loop; of the original training if it was reused.")
    store: float = volatile(description="Serialising and storing the model.")
    evaluate: float = volatile(description="After-training evaluation.")
    total: float = volatile(description="From the firing until the next data are looked at.")


class DownsamplingSeconds(_Part):
    """What downsampling took at a trigger, in seconds of its training; of the original one if it was reused."""

    score: float = volatile(description="Running models for scores.")
    choose: float = volatile(description="Deciding by them.")
    auxiliary: float = volatile(description="Training auxiliary models.")


class TriggerDownsamplingPart(_Part):
    """What the downsampling strategy did at one trigger."""

    strategy: str = Field(description="Its name.")
    samples_offered: int = Field(description="Passes that all epochs over the whole training set would have been.")
    samples_scored: int = Field(description="Forward passes for scores only.")
    scores_reused: int = Field(description="Samples whose score came from an earlier trigger.")
    auxiliary_samples: int = Field(description="Passes over samples in training auxiliary models.")
    trained: str | None = Field(description="Content digest of the keys and weights that were trained.")
    seconds: DownsamplingSeconds = Field(description="What it took.")


class TriggerPart(_Part):
    """One trigger."""

    index: int = Field(description="0, 1, 2 …")
    timestamp: int = Field(description="Data clock when it fired, Unix seconds.")
    reason: str = Field(description="Why it fired.")
    new_samples: int = Field(description="That came since the trigger before.")
    samples: int = Field(description="In the training set.")
    unlabelled: int = Field(description="New or old samples left out because they have no label.")
    first_timestamp: int | None = Field(description="Of the new data.")
    last_timestamp: int | None = Field(description="Largest of all data handed to the selector so far, inclusive.")
    training_set: str | None = Field(description="Content digest; null if there was nothing to train on.")
    model: str | None = Field(description="Content digest of the weights.")
    samples_trained: int = Field(description="Passes over samples.")
    batches: int = Field(description="Optimizer steps.")
    final_loss: float | None = Field(description="Mean training loss of the last epoch.")
    input_digest: str | None = Field(None, description="Of everything the training depends on.")
    live_from: float | None = volatile(
        None,
        description="When the model could have been live, on the clock of the data, Unix seconds: when it fired if "
        "`training_latency` of `evaluation` is zero, else when its training would have ended.",
    )
    reused: bool = volatile(description="An earlier training of the same inputs was used.")
    first_batch_ms: float | None = volatile(description="From the firing to the first training batch.")
    seconds: TriggerSeconds = Field(description="Where its time went.")
    downsampling: TriggerDownsamplingPart | None = Field(
        None, description="What narrowed the training set in the training job; null if nothing did."
    )
    error: str | None = Field(None, description="Why its training failed, and with it the pipeline.")


class FindingPart(_Part):
    """One number that a trigger compared with a threshold."""

    name: str = Field(description="Metric, criterion or subtrigger it is about; empty: the trigger itself.")
    statistic: float | None = Field(description="What was measured; null if there was nothing to measure.")
    threshold: float | None = Field(description="What it was compared with.")
    p_value: float | None = Field(description="Of a hypothesis test.")
    decision: bool = Field(description="Whether it speaks for a trigger.")
    note: str = Field(description="Why nothing was measured, and the like; may be empty.")


class TriggerEvaluationPart(_Part):
    """Why the trigger fired at some moment, or did not."""

    number: int = Field(description="0, 1, 2 …")
    trigger: int | None = Field(description="Index of the trigger that it fired.")
    first_timestamp: int = Field(description="Smallest event time of the samples looked at, Unix seconds.")
    last_timestamp: int = Field(description="Largest event time of the samples looked at, Unix seconds.")
    num_samples: int = Field(description="How many they were.")
    decision: bool = Field(description="Whether the trigger fired.")
    reason: str = Field(description="One line for people.")
    findings: list[FindingPart] = Field(description="The numbers behind the decision.")
    seconds: float = volatile(description="Spent deciding.")


class IntervalPart(_Part):
    """A confidence interval."""

    low: float = Field(description="Lower end.")
    high: float = Field(description="Upper end.")
    level: float = Field(description="Confidence level, such as 0.95.")


class DifferencePart(_Part):
    """A paired difference: the mean, over windows that both have, of one score less the other."""

    mean: float = Field(description="Positive: the first is larger, which is better or worse as the metric says.")
    interval: IntervalPart | None = Field(None, description="Null with too few windows.")
    windows: int = Field(description="How many windows both have.")


class CompositeScore(_Part):
    """One metric of the composite model over the windows of a handler."""

    currently_active: float | None = Field(
        description="Plain mean over the windows, each scored with the last model trained only on data from before it."
    )
    currently_trained: float | None = Field(
        description="The same with the next model; null if the handler does not score these."
    )
    currently_active_time_weighted: float | None = Field(description="Mean weighted by the length of the windows.")
    currently_trained_time_weighted: float | None = Field(description="Mean weighted by the length of the windows.")
    windows_scored: int = Field(description="Windows that the currently active score counts.")
    windows_empty: int = Field(description="Without labelled samples.")
    windows_without_model: int = Field(description="Before the first model was active.")
    windows_undefined: int = Field(description="With samples and a model, but the metric has no value or is unknown.")
    baselines: dict[str, float | None] = Field(
        description="Mean of no-model predictions over the windows that the currently active score counts."
    )
    greater_is_better: bool = Field(True, description="False for losses and errors.")
    bounds: tuple[float, float] | None = Field(
        None, description="Smallest and largest value that the metric can have; null: any."
    )
    interval: IntervalPart | None = Field(
        None,
        description="Block-bootstrap confidence interval of `currently_active`; null with too few windows, or if not "
        "asked for.",
    )
    trained_interval: IntervalPart | None = Field(
        None, description="The same of `currently_trained`; not of single classes and slices."
    )
    over_baselines: dict[str, DifferencePart] = Field(
        {},
        description="`currently_active` less each baseline, on the windows where both are defined; not of single "
        "classes and slices.",
    )


class WindowScore(_Part):
    """One metric on one window."""

    currently_active: float | None = Field(description="Of the active model; null if there is none or no value.")
    currently_trained: float | None = Field(description="Of the next model, if it was scored here.")
    baselines: dict[str, float | None] = Field(description="Of predictions without a model, by name.")
    interval: IntervalPart | None = Field(None, description="Of `currently_active`, from the samples of the window.")


class WindowPart(_Part):
    """One evaluation window [start, end)."""

    handler: str = Field(description="Name of the evaluation handler.")
    dataset: str = Field(description="Evaluation dataset.")
    start: int = Field(description="Unix seconds, inclusive.")
    end: int = Field(description="Unix seconds, exclusive.")
    anchor: int = Field(
        description="The moment that decides which model is active: the start, or the centre of a periodic window."
    )
    samples: int = Field(description="Labelled samples in it.")
    unlabelled: int = Field(description="Samples without a label, left out.")
    active_trigger: int | None = Field(description="Trigger whose model is currently active at the anchor.")
    trained_trigger: int | None = Field(description="Trigger whose model is currently trained at the anchor.")
    scores: dict[str, WindowScore] = Field(
        description="By metric; of a class of a metric as `metric#class`, of a slice as `metric[column=value]`."
    )
    certification: Literal["certified", "cross_validation"] | None = Field(
        None,
        description="certified: all samples have the role test, so no training ever saw one; cross_validation: some "
        "may be trained on, too; null: no samples, or from a time before this was noted.",
    )
    data_digest: str | None = Field(
        None, description="Of the keys and labels scored, and of what storage held of the samples."
    )


class ModelScore(_Part):
    """One model on one window (one cell of the model x window matrix)."""

    handler: str = Field(description="Name of the evaluation handler.")
    dataset: str = Field(description="Evaluation dataset.")
    trigger: int = Field(description="Trigger whose model it is.")
    start: int = Field(description="Of the window, Unix seconds, inclusive.")
    end: int = Field(description="Of the window, Unix seconds, exclusive.")
    samples: int = Field(description="Labelled samples scored.")
    metrics: dict[str, float | None] = Field(description="By metric; null where it has no value.")
    intervals: dict[str, IntervalPart] = Field({}, description="By metric, where there is one.")


class MetricPart(_Part):
    """A metric of an evaluation dataset."""

    dataset: str = Field(description="Evaluation dataset.")
    name: str = Field(description="As in `composite`.")
    digest: str = Field(description="Of its configuration and, for code of the user, of that code.")
    greater_is_better: bool = Field(description="False for losses and errors.")


class HandlerPart(_Part):
    """An evaluation handler."""

    name: str = Field(description="As in `composite`.")
    execution_time: str = Field(description="after_training, after_pipeline or manual.")
    models: str = Field(description="composite, active, training or matrix.")
    strategy: dict[str, Any] = Field(description="The window strategy with every default filled in.")
    added_at: float | None = volatile(None, description="When `evaluate` added it, Unix seconds; null: in the YAML.")
    training_latency: str | None = Field(
        None, description="As of `evaluation`, which one that was added may differ from; null: of an earlier report."
    )
    labels: str | None = Field(None, description="Likewise.")
    label_delay: int | None = Field(None, description="Likewise, in seconds.")
    confidence: float | None = Field(None, description="Likewise.")


class EvaluationPart(_Part):
    """How the pipeline was evaluated: by its YAML, or without handlers there as by the first that was added."""

    handlers: list[HandlerPart] = Field(description="Those of the YAML, then those that were added later.")
    metrics: list[MetricPart] = Field(description="By dataset.")
    training_latency: str = Field(description="zero, measured or modelled: when a model counts as active.")
    labels: str = Field(description="newest or known.")
    label_delay: int | None = Field(description="Seconds.")
    confidence: float | None = Field(description="Level of the intervals.")


class TransferPart(_Part):
    """What learning later data did to earlier and future ones, from the model x window matrix of a handler.

    Differences are turned so that more is better whatever the metric, except `forgetting`.
    """

    handler: str = Field(description="Name of the evaluation handler.")
    dataset: str = Field(description="Evaluation dataset.")
    metric: str = Field(description="As in `composite`.")
    forgetting: float | None = Field(
        description="Mean over windows that were learned before the last model: the best score of the models that had "
        "learned the window, the last one excepted, less the last model's (Chaudhry et al. 2018). Positive: forgotten."
    )
    backward_transfer: float | None = Field(
        description="Mean over the same windows: the last model's score less that of the first model that had learned "
        "the window (Lopez-Paz and Ranzato 2017). Negative: forgotten."
    )
    forward_transfer: float | None = Field(
        description="Mean over windows that came after the first model: the score of the last model that had not seen "
        "any of the window less that of the majority class (after Lopez-Paz and Ranzato, with it in place of an "
        "untrained model)."
    )
    windows_backward: int = Field(description="Windows that the first two count.")
    windows_forward: int = Field(description="Windows that the third counts.")


class OffsetPart(_Part):
    """Models at the same distance from their own training data, such as a week after."""

    handler: str = Field(description="Name of the evaluation handler.")
    dataset: str = Field(description="Evaluation dataset.")
    metric: str = Field(description="As in `composite`.")
    offset: str = Field(description="As in the YAML, such as `+1w`.")
    models: int = Field(description="How many models it is the mean of.")
    mean: float | None = Field(description="Plain mean over models.")
    interval: IntervalPart | None = Field(None, description="Of the mean.")


class ConfusionPart(_Part):
    """How often a label met a prediction of the currently active model, over the windows it was scored on."""

    handler: str = Field(description="Name of the evaluation handler.")
    dataset: str = Field(description="Evaluation dataset.")
    classes: list[int] = Field(description="Those that occur as a label or a prediction, ascending.")
    counts: list[list[int]] = Field(description="[label][prediction]; samples of overlapping windows count in each.")
    windows: int = Field(description="How many windows it is the sum of.")


class CostPart(_Part):
    """What it cost. Reused results count with their original cost."""

    trainings: int = Field(description="Models trained, reused ones included.")
    trainings_reused: int = volatile(description="Of them taken from earlier runs.")
    samples_trained: int = Field(description="Passes over samples.")
    train_seconds: float = volatile(description="In training loops.")
    evaluate_seconds: float = volatile(description="Predicting and scoring.")
    select_seconds: float = volatile(description="In selection policies.")
    trigger_seconds: float = volatile(description="Spent in the triggering policy and on what it asked of models.")
    trigger_samples_embedded: int = volatile(0, description="Samples that models embedded for the trigger.")
    trigger_samples_predicted: int = volatile(0, description="Samples that models predicted for the trigger.")
    start_seconds: float = volatile(0.0, description="Waiting for the first batch of trainings, selection excluded.")
    store_seconds: float = volatile(0.0, description="Serialising and storing models.")
    train_seconds_reused: float = volatile(0.0, description="Part of `train_seconds` that earlier runs spent.")
    evaluate_seconds_reused: float = volatile(
        0.0,
        description="Part of `evaluate_seconds` that predictions once took which were used again, whoever made them.",
    )
    gpu_seconds: float = volatile(0.0, description="GPUs held by trainings times the seconds they were held.")
    bytes_read: int = volatile(0, description="Payload read from storage by trainings and evaluations.")
    model_bytes: int = volatile(
        0, description="Storage that its models took when they were stored; of a delta, the delta."
    )
    samples_scored: int = volatile(0, description="Predictions for evaluations, reused ones included.")
    samples_scored_reused: int = volatile(0, description="Of them made by earlier evaluations, its own too.")
    samples_scored_for_training: int = Field(0, description="Forward passes of downsampling strategies for scores.")
    ingest_seconds: float = volatile(description="Ingesting files before the first sample was looked at.")
    wall_seconds: float = volatile(description="From submission to the last result.")


class FixedCostPart(_Part):
    """What a trigger costs beyond the work itself."""

    first_batch_ms_median: float | None = volatile(description="Firing to first training batch; reused ones left out.")
    overhead_seconds: float = volatile(description="Wall time of the pipeline less training and evaluation compute.")


class BaselinePart(_Part):
    """A pipeline trained beside this one with another downsampling strategy and the same number of passes."""

    kind: BaselineKind = Field(
        description="uniform: uniformly drawn samples, as many; fewer_epochs: all samples, in fewer epochs."
    )
    id: str = volatile(description="Of its pipeline; `modyn-client report` shows more.")
    status: str = Field(description="As of a pipeline.")
    error: str | None = Field(None, description="Why it failed.")
    trainings: int = Field(description="Models trained, reused ones included.")
    trainings_reused: int = volatile(description="Of them taken from earlier runs.")
    samples_trained: int = Field(description="Passes over samples.")
    train_seconds: float = volatile(description="As of `cost`.")
    total_seconds: float = volatile(description="As of `downsampling`.")
    composite: dict[str, dict[str, dict[str, float | None]]] = Field(
        description="The currently active score by handler, dataset and metric."
    )


class DownsamplingPart(_Part):
    """Whether downsampling paid. Reused results count with their original cost."""

    strategies: list[str] = Field(description="Names, in the order of their first use.")
    triggers: int = Field(description="Trainings with a strategy.")
    samples_offered: int = Field(description="Passes that these trainings would have been on all samples.")
    samples_trained: int = Field(description="Passes that they were.")
    samples_scored: int = Field(description="Forward passes for scores only.")
    scores_reused: int = Field(description="Samples whose score came from an earlier trigger.")
    auxiliary_samples: int = Field(description="Passes over samples in training auxiliary models.")
    train_seconds: float = volatile(description="In the training loops of these trainings, everything included.")
    score_seconds: float = volatile(description="Of them, running models for scores.")
    choose_seconds: float = volatile(description="Of them, deciding by the scores.")
    auxiliary_seconds: float = volatile(description="Of them, training auxiliary models.")
    seconds_saved: float = volatile(
        description="Estimate: what the passes left out would have taken, each as long as one that was trained."
    )
    seconds_net: float = volatile(
        description="`seconds_saved` less scoring, deciding and auxiliary models; negative: more time than without."
    )
    total_seconds: float = volatile(
        description="Selecting, training and storing at all triggers of the pipeline; evaluation and waiting left out."
    )
    verdict: str = volatile(description="One line for people.")
    baselines: list[BaselinePart] = Field([], description="Those that were trained beside it; the last of each kind.")


class Report(_Part):
    """The whole report."""

    schema_version: int = Field(REPORT_SCHEMA_VERSION, description="Of this document.")
    modyn_version: str = Field(description="Of the software that wrote it.")
    pipeline: PipelinePart
    run: RunPart
    triggers: list[TriggerPart] = Field(description="In the order in which they fired.")
    trigger_evaluations: list[TriggerEvaluationPart] = Field(
        [], description="Every look of the trigger at the data, in order; simple triggers look only when they fire."
    )
    composite: dict[str, dict[str, dict[str, CompositeScore]]] = Field(description="By handler, dataset and metric.")
    windows: list[WindowPart] = Field(description="By handler, dataset and time.")
    evaluations: list[ModelScore] = Field(description="Every model on every window it was scored on.")
    failures: list[str] = Field(
        description="Evaluations that failed, one line for each reason; everything else was finished."
    )
    evaluation: EvaluationPart | None = Field(None, description="Null without an evaluation.")
    transfer: list[TransferPart] = Field([], description="Of handlers that scored every model on every window.")
    offsets: list[OffsetPart] = Field([], description="Of handlers whose windows belong to models.")
    confusion: list[ConfusionPart] = Field([], description="Where datasets count them.")
    cost: CostPart
    fixed_cost: FixedCostPart
    downsampling: DownsamplingPart | None = Field(None, description="Null if no training set was downsampled.")


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
