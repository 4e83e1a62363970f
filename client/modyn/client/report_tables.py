"""A report as Arrow tables with fixed schemas.

Field names, types and descriptions come from the report's own schema; names of scores are split into metric, slice and
class. Missing and non-finite numbers are null. Times are Unix seconds (UTC).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from operator import attrgetter, itemgetter
from typing import Any

import pyarrow as pa

from modyn.client.columns import (
    Column,
    ResultTable,
    arrow_type,
    column,
    fields,
    interval_columns,
    score_name_columns,
)
from modyn.client.composites import composite_scores
from modyn.client.explanations import flat_rows
from modyn.core.report import (
    CompositeScore,
    ConfusionPart,
    CostPart,
    DownsamplingSeconds,
    FindingPart,
    FixedCostPart,
    HandlerPart,
    MetricPart,
    ModelScore,
    OffsetPart,
    Report,
    TransferPart,
    TriggerDownsamplingPart,
    TriggerEvaluationPart,
    TriggerPart,
    TriggerSeconds,
    WindowPart,
    WindowScore,
)

BASELINES = ("majority_class", "last_label", "same_hour_of_day", "same_hour_of_week")
"""Predictions without a model that have columns of their own."""


def report_tables(report: Report) -> dict[str, pa.Table]:
    """All of :data:`TABLES` by name."""
    return {name: table.of(report) for name, table in TABLES.items()}


def _baseline(name: str, of: Callable[[Any], dict[str, float | None]], what: str) -> Column:
    return column(name, float, f"{what} of the prediction without a model `{name}`.", lambda row: of(row).get(name))


def _window_scores(report: Report) -> Iterator[tuple[WindowPart, str, WindowScore]]:
    return ((window, name, score) for window in report.windows for name, score in window.scores.items())


def _model_scores(report: Report) -> Iterator[tuple[ModelScore, str, float | None]]:
    return ((score, name, value) for score in report.evaluations for name, value in score.metrics.items())


def _over_baselines(report: Report) -> Iterator[tuple[str, str, str, CompositeScore, str]]:
    return ((*found, name) for found in composite_scores(report) for name in found[3].baselines)


def _confusions(report: Report) -> Iterator[tuple[ConfusionPart, int, int, int]]:
    for part in report.confusion:
        for label, counts in zip(part.classes, part.counts, strict=True):
            for prediction, count in zip(part.classes, counts, strict=True):
                if count:
                    yield part, label, prediction, count


def _difference(row: tuple[str, str, str, CompositeScore, str]) -> Any:
    return row[3].over_baselines.get(row[4])


def _difference_interval(row: tuple[str, str, str, CompositeScore, str]) -> Any:
    difference = _difference(row)
    return None if difference is None else difference.interval


def _composite_keys() -> list[Column]:
    return [
        column("handler", str, "Name of the evaluation handler.", itemgetter(0)),
        column("dataset", str, "Evaluation dataset.", itemgetter(1)),
        *score_name_columns(itemgetter(2)),
    ]


_EVALUATION_FIELDS = {
    "evaluation": TriggerEvaluationPart.model_fields["number"],
    "trigger": TriggerEvaluationPart.model_fields["trigger"],
    "first_timestamp": TriggerEvaluationPart.model_fields["first_timestamp"],
    "last_timestamp": TriggerEvaluationPart.model_fields["last_timestamp"],
    "num_samples": TriggerEvaluationPart.model_fields["num_samples"],
    "fired": TriggerEvaluationPart.model_fields["decision"],
    "reason": TriggerEvaluationPart.model_fields["reason"],
    "seconds": TriggerEvaluationPart.model_fields["seconds"],
    "finding": FindingPart.model_fields["name"],
    "statistic": FindingPart.model_fields["statistic"],
    "threshold": FindingPart.model_fields["threshold"],
    "p_value": FindingPart.model_fields["p_value"],
    "finding_decision": FindingPart.model_fields["decision"],
    "note": FindingPart.model_fields["note"],
}
"""What the columns of ``flat_rows`` are, which knows other names for them."""

TABLES: dict[str, ResultTable] = {
    "windows": ResultTable(
        "A row per evaluation window of a handler and dataset.",
        fields(
            WindowPart,
            *("handler", "dataset", "start", "end", "anchor", "samples", "unlabelled", "active_trigger"),
            *("trained_trigger", "certification", "data_digest"),
        ),
        attrgetter("windows"),
    ),
    "window_scores": ResultTable(
        "A row per window and score: the composite curves, and predictions without a model beside them.",
        [
            *fields(WindowPart, "handler", "dataset", "start", "end", "anchor", of=itemgetter(0)),
            *score_name_columns(itemgetter(1)),
            *fields(WindowPart, "active_trigger", of=itemgetter(0)),
            *fields(WindowScore, "currently_active", of=itemgetter(2)),
            *interval_columns(lambda row: row[2].interval, what="`currently_active`"),
            *fields(WindowScore, "currently_trained", of=itemgetter(2)),
            *(_baseline(name, lambda row: row[2].baselines, "Score") for name in BASELINES),
        ],
        _window_scores,
    ),
    "scores": ResultTable(
        "A row per model, window and score: the model × window matrix, as far as it was evaluated.",
        [
            *fields(ModelScore, "handler", "dataset", "trigger", "start", "end", "samples", of=itemgetter(0)),
            *score_name_columns(itemgetter(1)),
            column("value", float, "The score; null where the metric has no value.", itemgetter(2)),
            *interval_columns(lambda row: row[0].intervals.get(row[1]), what="`value`"),
        ],
        _model_scores,
    ),
    "composite": ResultTable(
        "A row per composite score: what the sequence of models would have been worth.",
        [
            *_composite_keys(),
            *fields(CompositeScore, "greater_is_better", "currently_active", of=itemgetter(3)),
            *interval_columns(lambda row: row[3].interval, what="`currently_active`"),
            *fields(CompositeScore, "currently_trained", of=itemgetter(3)),
            *interval_columns(lambda row: row[3].trained_interval, prefix="trained_", what="`currently_trained`"),
            *fields(
                CompositeScore,
                *("currently_active_time_weighted", "currently_trained_time_weighted", "windows_scored"),
                *("windows_empty", "windows_without_model", "windows_undefined"),
                of=itemgetter(3),
            ),
            *(_baseline(name, lambda row: row[3].baselines, "Mean over the same windows") for name in BASELINES),
        ],
        composite_scores,
    ),
    "baselines": ResultTable(
        "A row per composite score and prediction without a model: what the models are worth beyond it.",
        [
            *_composite_keys(),
            column("baseline", str, "Name of the prediction without a model.", itemgetter(4)),
            column("mean", float, "Its mean score.", lambda row: row[3].baselines[row[4]]),
            column(
                "difference",
                float,
                "Mean of `currently_active` less it, over the windows where both are defined.",
                lambda row: None if _difference(row) is None else _difference(row).mean,
            ),
            *interval_columns(_difference_interval, what="`difference`"),
            column(
                "windows",
                int,
                "How many windows both have.",
                lambda row: None if _difference(row) is None else _difference(row).windows,
            ),
        ],
        _over_baselines,
    ),
    "triggers": ResultTable(
        "A row per trigger.",
        [
            *fields(
                TriggerPart, *(name for name in TriggerPart.model_fields if name not in ("seconds", "downsampling"))
            ),
            *fields(TriggerSeconds, of=attrgetter("seconds"), prefix="seconds_"),
            *fields(
                TriggerDownsamplingPart,
                *(name for name in TriggerDownsamplingPart.model_fields if name != "seconds"),
                of=attrgetter("downsampling"),
                prefix="downsampling_",
            ),
            *fields(
                DownsamplingSeconds,
                of=lambda row: None if row.downsampling is None else row.downsampling.seconds,
                prefix="downsampling_seconds_",
            ),
        ],
        attrgetter("triggers"),
    ),
    "trigger_evaluations": ResultTable(
        "A row per evaluation of the trigger and finding; an evaluation without findings has one row.",
        [
            Column(name, arrow_type(field.annotation), field.description or "", itemgetter(index))
            for index, (name, field) in enumerate(_EVALUATION_FIELDS.items())
        ],
        lambda report: flat_rows(report.trigger_evaluations),
    ),
    "transfer": ResultTable(
        "A row per handler that scored every model on every window, dataset and metric.",
        [
            *fields(TransferPart, "handler", "dataset"),
            *score_name_columns(attrgetter("metric")),
            *fields(TransferPart, "forgetting", "backward_transfer", "forward_transfer"),
            *fields(TransferPart, "windows_backward", "windows_forward"),
        ],
        attrgetter("transfer"),
    ),
    "offsets": ResultTable(
        "A row per distance of windows from the models' training data.",
        [
            *fields(OffsetPart, "handler", "dataset"),
            *score_name_columns(attrgetter("metric")),
            *fields(OffsetPart, "offset", "models", "mean"),
            *interval_columns(attrgetter("interval"), what="`mean`"),
        ],
        attrgetter("offsets"),
    ),
    "confusion": ResultTable(
        "A row per pair of label and prediction of the active model that occurs.",
        [
            *fields(ConfusionPart, "handler", "dataset", of=itemgetter(0)),
            column("label", int, "The label.", itemgetter(1)),
            column("prediction", int, "What the model said.", itemgetter(2)),
            column("count", int, "How many samples; those of overlapping windows count in each.", itemgetter(3)),
        ],
        _confusions,
    ),
    "costs": ResultTable(
        "One row: what the run cost. Reused results count with their original cost.",
        [
            *fields(CostPart, of=attrgetter("cost")),
            *fields(FixedCostPart, of=attrgetter("fixed_cost")),
        ],
        lambda report: [report],
    ),
    "handlers": ResultTable(
        "A row per evaluation handler.",
        [
            *fields(HandlerPart, "name", "execution_time", "models"),
            column(
                "strategy",
                str,
                "The window strategy with every default filled in, as JSON.",
                lambda part: json.dumps(part.strategy, sort_keys=True),
            ),
            *fields(HandlerPart, "added_at", "training_latency", "labels", "label_delay", "confidence"),
        ],
        lambda report: [] if report.evaluation is None else report.evaluation.handlers,
    ),
    "metrics": ResultTable(
        "A row per metric of an evaluation dataset.",
        fields(MetricPart),
        lambda report: [] if report.evaluation is None else report.evaluation.metrics,
    ),
    "failures": ResultTable(
        "A row per evaluation that failed; everything else was finished.",
        [column("failure", str, "What failed, and why.", lambda failure: failure)],
        attrgetter("failures"),
    ),
}
"""All tables by name."""
