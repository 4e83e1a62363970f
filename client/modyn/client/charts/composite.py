"""Composite curves: the score of the model that was live, over data time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.series import WindowScores, lonely, thinned, window_scores
from modyn.client.charts.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    VERMILLION,
    WIDE,
    Dashes,
    Float64Array,
    Int64Array,
    Size,
    Where,
    add_legend,
    dress,
    finite,
    letter,
    new_figure,
    say,
    short,
)
from modyn.client.time_axis import axis_values, label_time, look_like_dates
from modyn.client.wording import readable
from modyn.core.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from modyn.client.compared_scores import ComparedScore

BASELINES: Sequence[tuple[str, Dashes]] = (
    (VERMILLION, (0, (1, 1.2))),
    (GREEN, (0, (5, 1.5, 1, 1.5))),
    (PURPLE, (0, (7, 2))),
    (ORANGE, (0, (3, 1))),
)
"""Colour and dashes of the first, second … no-model baseline."""

MARKERS_UP_TO = 60
"""Points of a curve that get a marker each."""

SMOOTH_FROM = 60
"""Windows from which on curves of several runs are rolling means: laid over each other, noisy ones cannot be read."""

LINES_UP_TO = 80
"""Triggers drawn as lines over the whole height; more are short strokes at the bottom."""


def composite_figure(reports: Report | Sequence[Report], where: Where, *, size: Size = WIDE) -> Figure:
    """The currently active score over data time.

    Of one report with the currently trained one, no-model baselines, the confidence interval of each window and a mark
    per trigger; several reports are laid over each other, on the windows in which each of them has an active model.

    Args:
        reports: one or several.
        where: handler, dataset and metric.
        size: of the picture.

    Raises:
        InvalidInputError: several reports do not share that score.
    """
    if isinstance(reports, Report):
        return _one_figure(reports, where, size)
    if len(reports) == 1:
        return _one_figure(reports[0], where, size)
    from modyn.client.comparison import compare

    compared = compare(reports)
    return curves_figure(compared.score(where), [run.name for run in compared.runs], size=size)


def curves_figure(score: ComparedScore, names: Sequence[str], *, size: Size = WIDE) -> Figure:
    """The currently active scores of several runs on their common windows.

    Of more windows than :data:`SMOOTH_FROM`, the curves are rolling means over a twentieth of them, as the axis says,
    and the scores themselves thin lines behind.

    Args:
        score: of a comparison.
        names: of the runs.
        size: of the picture.
    """
    figure = new_figure(size, (290 if size.is_narrow else 360) + _legend_rows(len(names), size) * size.font * 1.4)
    axes = figure.add_subplot()
    if not score.num_common:
        say(axes, size, "no window in which every run has an active model")
        return figure
    dates = look_like_dates(score.windows.ravel())
    together = 1 if score.num_common <= SMOOTH_FROM else 2 * (score.num_common // 40) + 1
    middle = axis_values(score.windows[:, 0] + (score.windows[:, 1] - score.windows[:, 0]) // 2, dates=dates)
    for index, (values, name) in enumerate(zip(score.values, names, strict=True)):
        color, dashes, marker = SERIES[index % len(SERIES)]
        label = f"{letter(index)}  {short(name, 34 if size.is_narrow else 48)}"
        drawn = finite(values.tolist())
        if together > 1:
            kept = thinned(drawn)
            axes.plot(middle[kept], drawn[kept], color=color, linewidth=0.7, alpha=0.35, zorder=2)
        smooth = rolling_mean(drawn, together)
        _curve(axes, middle, smooth, color=color, dashes=dashes, label=label, width=1.8, marker=marker)
    metric = short(score.where[2], 30)
    _finish(axes, size, metric if together == 1 else f"{metric}, mean of {together} windows", dates=dates)
    add_legend(figure, axes, size, columns=1 if size.is_narrow else 2)
    return figure


def rolling_mean(values: Float64Array, together: int) -> Float64Array:
    """Means of ``together`` neighbours around each value; of fewer at the ends and beside undefined ones.

    >>> rolling_mean(np.array([1.0, 2.0, 6.0]), 3)
    array([1.5, 3. , 4. ])
    """
    known = ~np.isnan(values)
    weights = np.ones(together)
    sums = np.convolve(np.where(known, values, 0.0), weights, "same")
    counts = np.convolve(known.astype(np.float64), weights, "same")
    return np.where(known, sums / np.maximum(counts, 1), np.nan)


def _legend_rows(names: int, size: Size) -> int:
    return names if size.is_narrow else -(-names // 2)


def _one_figure(report: Report, where: Where, size: Size) -> Figure:
    scores = window_scores(report, where)
    figure = new_figure(size, 360 if size.is_narrow else 390)
    axes = figure.add_subplot()
    if not len(scores):
        say(axes, size, "no windows")
        return figure
    firings = np.array([t.timestamp for t in report.triggers], np.int64)
    dates = look_like_dates(np.concatenate([scores.start, scores.end, firings]))
    _draw_one(axes, scores, firings, size, dates=dates)
    _finish(axes, size, short(where[2], 40), dates=dates)
    add_legend(figure, axes, size, last_first=True)
    return figure


def _finish(axes: Axes, size: Size, metric: str, *, dates: bool) -> None:
    dress(axes, size, y=metric)
    label_time(axes, dates=dates, fontsize=size.font, most=5 if size.is_narrow else 10)
    axes.margins(x=0.01)


def _draw_one(axes: Axes, scores: WindowScores, firings: Int64Array, size: Size, *, dates: bool) -> None:
    times = axis_values(scores.middle, dates=dates)
    _mark_triggers(axes, axis_values(firings, dates=dates), size)
    kept = thinned(scores.low)
    if not np.isnan(scores.low).all():
        band = axes.fill_between(
            times[kept], scores.low[kept], scores.high[kept], color=SKY, alpha=0.35, linewidth=0, zorder=2
        )
        band.set_label("interval of the active model")
    for (name, values), (color, dashes) in zip(scores.baselines.items(), BASELINES, strict=False):
        _curve(
            axes, times, values, color=color, dashes=dashes, label=f"{readable(short(name, 40))} (no model)", width=1.3
        )
    if not np.isnan(scores.trained).all():
        _curve(axes, times, scores.trained, color=MUTED, dashes=(0, (4, 2)), label="currently trained", width=1.1)
    _curve(axes, times, scores.active, color=BLUE, dashes="-", label="currently active", width=2.0, marker="o")


def _curve(
    axes: Axes,
    times: Float64Array,
    values: Float64Array,
    *,
    color: str,
    dashes: Dashes,
    label: str,
    width: float,
    marker: str = "",
) -> None:
    kept = thinned(values)
    times, values = times[kept], values[kept]
    (line,) = axes.plot(times, values, color=color, linestyle=dashes, linewidth=width, label=label, zorder=3)
    if marker and len(values):
        line.set_marker(marker)
        line.set_markersize(3.6)
        line.set_markevery(1 if len(values) <= MARKERS_UP_TO else (0, len(values) // 12))
    alone = lonely(values)
    if not np.isnan(alone).all():
        axes.plot(times, alone, color=color, linestyle="", marker=marker or "_", markersize=3.6, zorder=3)


def _mark_triggers(axes: Axes, moments: Float64Array, size: Size) -> None:
    if not len(moments):
        return
    many = len(moments) > LINES_UP_TO
    if many:  # no two strokes on one pixel
        pixels = np.round((moments - moments.min()) / max(float(np.ptp(moments)), 1e-9) * size.width)
        moments = moments[np.unique(pixels, return_index=True)[1]]
    lines = axes.vlines(
        moments,
        0,
        0.04 if many else 1,
        transform=axes.get_xaxis_transform(),
        linewidth=0.9,
        zorder=1,
        color=INK if many else FAINT,
    )
    lines.set_label("trigger")
