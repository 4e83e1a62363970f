"""The sections on what the models are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from modyn.client.charts.composite import composite_figure
from modyn.client.charts.confusion import confusion_figure
from modyn.client.charts.heatmap import Matrix, matrix, matrix_figure
from modyn.client.charts.offsets import offsets_figure
from modyn.client.charts.series import MAX_POINTS
from modyn.client.composites import certification, detailed_scores, whole_scores
from modyn.client.html.blocks import Block, Bullets, Fold, Heading, Picture, Section, Table, Words
from modyn.client.html.drawing import picture
from modyn.client.wording import count, interpretation, number, readable, signed, with_interval
from modyn.core.report import CompositeScore, OffsetPart, Report
from modyn.core.scores import ScoreName

MOST_CURVES = 8
MOST_MATRICES = 4
MOST_CONFUSIONS = 4
MOST_OFFSETS = 4
"""Pictures of each kind: a page of many handlers, datasets and metrics would take long to make and to load."""

MOST_DETAILS = 400
"""Rows of scores of slices and classes."""

_EXPLAINED = (
    "Currently active: every window is scored with the model that was live at its anchor, the last one trained only "
    "on data from before. Currently trained: with the next model, whose training data may reach into the window, so it "
    "is optimistic; it also counts the first windows, without an active model. Baselines use no model and are scored "
    "on the windows of the currently active score."
)


def score_sections(report: Report) -> Iterator[Section]:
    """Composite curves and scores, the model x window matrix, transfer, offsets, confusion, slices and classes."""
    yield Section("composite", "Composite scores", list(_composite(report)))
    yield Section("matrix", "Every model on every window", list(_matrices(report)))
    yield Section("transfer", "Forgetting and transfer", list(_transfer(report)))
    yield Section("offsets", "Before and after training", list(_offsets(report)))
    yield Section("confusion", "Confusion of the active model", list(_confusions(report)))
    yield Section("details", "Slices and classes", list(_details(report)))


def _composite(report: Report) -> Iterator[Block]:
    if not report.composite:
        return
    yield Words(_EXPLAINED, "muted")
    drawn = 0
    for handler, datasets in report.composite.items():
        for dataset, metrics in datasets.items():
            whole = {name: score for name, score in metrics.items() if ScoreName.parse(name).is_whole}
            yield Heading(f"{handler} on {dataset}")
            yield _composite_table(handler, dataset, whole)
            mark = certification(report, handler, dataset).replace("*", "")
            said = [f"{metric}: {interpretation(score)}" for metric, score in whole.items()]
            yield Bullets([*said, *([mark] if mark else [])])
            for position, (metric, score) in enumerate(whole.items()):
                if drawn >= MOST_CURVES:
                    break
                shown = _curve(report, (handler, dataset, metric), score, drawn)
                drawn += 1
                yield shown if position == 0 else Fold(f"{metric} over data time", [shown], prints=True)
    total = sum(1 for _ in whole_scores(report))
    if total > drawn:
        yield Words(f"The curves of {count(total - drawn, 'more score')} are not drawn; the tables have them.", "muted")


def _composite_table(handler: str, dataset: str, metrics: Mapping[str, CompositeScore]) -> Table:
    """A column per metric: there are few of them, and many numbers of each."""
    scores = list(metrics.values())
    baselines = sorted({name for score in scores for name in score.baselines})
    rows: list[tuple[str, ...]] = [
        ("currently active", *(with_interval(score.currently_active, score.interval) for score in scores)),
        ("currently trained", *(with_interval(score.currently_trained, score.trained_interval) for score in scores)),
        ("currently active, weighted by time", *(number(score.currently_active_time_weighted) for score in scores)),
    ]
    for name in baselines:
        rows.append((f"{readable(name)} (no model)", *(number(score.baselines.get(name)) for score in scores)))
        if any(name in score.over_baselines for score in scores):
            rows.append((f"active less {readable(name)}", *(_difference(score, name) for score in scores)))
    rows += [
        ("windows scored", *(f"{score.windows_scored:,}" for score in scores)),
        ("windows without labelled samples", *(f"{score.windows_empty:,}" for score in scores)),
        ("windows before the first model", *(f"{score.windows_without_model:,}" for score in scores)),
        ("windows on which the metric is undefined", *(f"{score.windows_undefined:,}" for score in scores)),
    ]
    header = ["", *(name if score.greater_is_better else f"{name} (less is better)" for name, score in metrics.items())]
    return Table(f"Means over the windows of {handler} on {dataset}, with intervals where there are any", header, rows)


def _difference(score: CompositeScore, name: str) -> str:
    part = score.over_baselines.get(name)
    if part is None:
        return number(None)
    ends = "" if part.interval is None else f" [{part.interval.low:+.3f}, {part.interval.high:+.3f}]"
    return f"{signed(part.mean)}{ends}"


def _curve(report: Report, where: tuple[str, str, str], score: CompositeScore, number_of_it: int) -> Picture:
    handler, dataset, metric = where
    windows = sum(1 for w in report.windows if (w.handler, w.dataset) == (handler, dataset) and metric in w.scores)
    thinned = f"Drawn from the peaks of {windows:,} windows." if windows > MAX_POINTS else ""
    return picture(
        f"curve-{number_of_it}",
        f"{metric} of {handler} on {dataset} over data time, beside predictions without a model, with triggers",
        lambda size: composite_figure(report, where, size=size),
        description=f"{count(windows, 'window')}, {count(len(report.triggers), 'trigger')}. {interpretation(score)}",
        note=thinned,
    )


def _matrices(report: Report) -> Iterator[Block]:
    drawn = 0
    for handler, dataset, metric, _ in whole_scores(report):
        if drawn >= MOST_MATRICES:
            yield Words("More matrices are not drawn; the tables have them.", "muted")
            return
        found = matrix(report, (handler, dataset, metric))
        if found.is_empty or len(found.triggers) < 2:
            continue
        shown = _heat_map(found, (handler, dataset, metric), drawn)
        yield shown if drawn == 0 else Fold(shown.caption, [shown], prints=True)
        drawn += 1


def _heat_map(found: Matrix, where: tuple[str, str, str], number_of_it: int) -> Picture:
    handler, dataset, metric = where
    low, high = float(np.nanmin(found.values)), float(np.nanmax(found.values))
    known = int((~np.isnan(found.values)).sum())
    return picture(
        f"matrix-{number_of_it}",
        f"{metric} of {handler} on {dataset}: a row per model, a column per window",
        lambda size: matrix_figure(found, metric, size=size),
        description=f"{len(found.triggers)} models and {len(found.start)} windows, {known:,} scores between {low:.4f} "
        f"and {high:.4f}.",
        note="Cells are means of neighbours." if found.is_averaged else "",
    )


def _transfer(report: Report) -> Iterator[Block]:
    rows = [
        (
            f"{part.metric} ({part.handler} on {part.dataset})",
            *(signed(value) for value in (part.forgetting, part.backward_transfer, part.forward_transfer)),
            f"{part.windows_backward:,}",
            f"{part.windows_forward:,}",
        )
        for part in report.transfer
        if ScoreName.parse(part.metric).is_whole
    ]
    if not rows:
        return
    yield Words(
        "From the model × window matrix. Forgetting: how far the last model falls behind the best earlier one on "
        "windows that were learned before. Backward transfer: the last model less the first that had learned a window. "
        "Forward transfer: the newest model that has seen nothing of a window less the majority class. For all but "
        "forgetting, more is better whatever the metric.",
        "muted",
    )
    header = ("metric", "forgetting", "backward transfer", "forward transfer", "windows backward", "windows forward")
    yield Table("What later data did to earlier and future ones", header, rows)


def _offsets(report: Report) -> Iterator[Block]:
    groups: dict[tuple[str, str, str], list[OffsetPart]] = {}
    for part in report.offsets:
        if ScoreName.parse(part.metric).is_whole:
            groups.setdefault((part.handler, part.dataset, part.metric), []).append(part)
    for position, ((handler, dataset, metric), parts) in enumerate(groups.items()):
        place = f"{metric} of {handler} on {dataset}"
        if position < MOST_OFFSETS:
            yield picture(
                f"offsets-{position}",
                f"{place} by distance from the training data, with intervals",
                lambda size, parts=parts: offsets_figure(parts, size=size),  # type: ignore[misc]
            )
        rows = [(part.offset, with_interval(part.mean, part.interval), f"{part.models:,}") for part in parts]
        yield Table(f"{place}: mean over models", ("distance", "mean", "models"), rows)


def _confusions(report: Report) -> Iterator[Block]:
    for position, part in enumerate(report.confusion[:MOST_CONFUSIONS]):
        overlapping = "; samples of overlapping windows count in each" if part.windows > 1 else ""
        yield picture(
            f"confusion-{position}",
            f"{part.handler} on {part.dataset}: rows are labels, columns predictions, over "
            f"{count(part.windows, 'window')}{overlapping}",
            lambda size, part=part: confusion_figure(part, size=size),  # type: ignore[misc]
            description=f"{len(part.classes)} classes, {sum(map(sum, part.counts)):,} samples.",
        )
    if len(report.confusion) > MOST_CONFUSIONS:
        yield Words("More matrices are not drawn; the tables have them.", "muted")


def _details(report: Report) -> Iterator[Block]:
    for handler, datasets in report.composite.items():
        for dataset, metrics in datasets.items():
            found = detailed_scores(metrics)
            if not found:
                continue
            rows = [
                (
                    name.metric,
                    name.slice or "all",
                    "all" if name.label is None else str(name.label),
                    with_interval(score.currently_active, score.interval),
                    with_interval(score.currently_trained, score.trained_interval),
                    f"{score.windows_scored:,}",
                )
                for name, score in found[:MOST_DETAILS]
            ]
            header = ("metric", "slice", "class", "currently active", "currently trained", "windows scored")
            table = Table(
                f"{handler} on {dataset} by slice and class",
                header,
                rows,
                texts=frozenset({1, 2}),
                note=f"{len(rows):,} of {len(found):,} scores; the tables have all." if len(found) > len(rows) else "",
            )
            yield Fold(f"{handler} on {dataset}: {count(len(found), 'score')}", [table]) if len(rows) > 30 else table
