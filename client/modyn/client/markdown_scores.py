"""The part of ``report.md`` on what the models are worth."""

from __future__ import annotations

from collections.abc import Mapping

from modyn.client.composites import certification, detailed_scores
from modyn.client.text_tables import markdown_table
from modyn.client.wording import interpretation, interval, number, readable, signed, with_interval
from modyn.core.report import CompositeScore, Report
from modyn.core.scores import ScoreName

DETAILS_SHOWN = 40
"""How many scores of slices and classes of a handler and dataset stand in the report; the tables have all."""

_EXPLAINED = (
    "*Currently active*: every window is scored with the model that was live when it began: the last one trained "
    "only on data from before. *Currently trained*: with the next model, whose training data may reach into the "
    "window, so it is optimistic, and on all windows with a score, also the first ones without an active model; "
    "– if the handler does not score these models. Baselines use no model and are scored on the same windows as "
    "currently active."
)


def score_sections(report: Report) -> list[str]:
    """Composite scores beside the no-model baselines, of slices and classes, transfer and offsets."""
    lines = ["", "## Composite scores", ""]
    if not report.composite:
        advice = (
            "; an `evaluation` section would say what the models are worth" if report.pipeline.error is None else ""
        )
        return [*lines, f"Nothing was evaluated{advice}."]
    lines.append(_EXPLAINED)
    for handler, datasets in report.composite.items():
        for dataset, metrics in datasets.items():
            whole = {name: score for name, score in metrics.items() if ScoreName.parse(name).is_whole}
            mark = certification(report, handler, dataset)
            lines += ["", f"### {handler} on {dataset}", "", *_composite_table(whole), ""]
            lines += [f"- {metric}: {interpretation(score)}" for metric, score in whole.items()]
            lines += [f"- {mark}"] if mark else []
            lines += _details(metrics)
    return [*lines, *_transfer(report), *_offsets(report)]


def _composite_table(metrics: Mapping[str, CompositeScore]) -> list[str]:
    names = sorted({name for score in metrics.values() for name in score.baselines})
    header = ("metric", "currently active", "currently trained", "time-weighted", *map(readable, names))
    header += ("windows scored", "empty", "without model", "undefined")
    rows = [
        (
            metric,
            f"**{number(score.currently_active)}** {interval(score.interval)}".rstrip(),
            with_interval(score.currently_trained, score.trained_interval),
            number(score.currently_active_time_weighted),
            *(number(score.baselines.get(name)) for name in names),
            str(score.windows_scored),
            str(score.windows_empty),
            str(score.windows_without_model),
            str(score.windows_undefined),
        )
        for metric, score in metrics.items()
    ]
    return markdown_table(header, rows)


def _details(metrics: Mapping[str, CompositeScore]) -> list[str]:
    found = detailed_scores(metrics)
    if not found:
        return []
    rows = [
        (
            name.metric,
            name.slice or "all",
            "all" if name.label is None else str(name.label),
            with_interval(score.currently_active, score.interval),
            str(score.windows_scored),
        )
        for name, score in found[:DETAILS_SHOWN]
    ]
    lines = ["", "#### By slice and class", ""]
    lines += markdown_table(("metric", "slice", "class", "currently active", "windows scored"), rows)
    if len(found) > DETAILS_SHOWN:
        lines += ["", f"{len(found) - DETAILS_SHOWN:,} more are in `tables/composite.parquet`."]
    return lines


def _transfer(report: Report) -> list[str]:
    rows = [
        (
            *(f"{part.handler} on {part.dataset}", part.metric, signed(part.forgetting)),
            *(signed(part.backward_transfer), signed(part.forward_transfer)),
            f"{part.windows_backward:,} and {part.windows_forward:,}",
        )
        for part in report.transfer
        if ScoreName.parse(part.metric).is_whole
    ]
    if not rows:
        return []
    lines = ["", "## Forgetting and transfer", ""]
    lines.append(
        "From the model × window matrix. *Forgetting*: how far the last model falls behind the best earlier one on "
        "windows that were learned before. *Backward transfer*: the last model less the first that had learned a "
        "window. *Forward transfer*: the newest model that has seen nothing of a window less the majority class."
    )
    header = ("handler", "metric", "forgetting", "backward transfer", "forward transfer", "windows counted")
    return [*lines, "", *markdown_table(header, rows)]


def _offsets(report: Report) -> list[str]:
    rows = [
        (
            *(f"{part.handler} on {part.dataset}", part.metric, part.offset),
            *(with_interval(part.mean, part.interval), f"{part.models:,}"),
        )
        for part in report.offsets
        if ScoreName.parse(part.metric).is_whole
    ]
    if not rows:
        return []
    lines = ["", "## Before and after training", "", "Means over models at the same distance from their data.", ""]
    return [*lines, *markdown_table(("handler", "metric", "offset", "mean", "models"), rows)]
