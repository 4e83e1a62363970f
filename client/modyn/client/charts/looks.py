"""What a trigger measured against its threshold, over data time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.series import lonely, thinned
from modyn.client.charts.style import (
    BLUE,
    FAINT,
    INK,
    VERMILLION,
    WIDE,
    Size,
    add_legend,
    dress,
    new_figure,
    say,
    short,
)
from modyn.client.time_axis import axis_values, label_time, look_like_dates
from modyn.client.trigger_plot import MAX_PANELS, Panel, firings, panels
from modyn.core.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from modyn.client.charts.style import Float64Array

MOST_STROKES = 400
"""Firings that are drawn; of more, those that fall on different pixels of this grid."""


def trigger_figure(report: Report, *, size: Size = WIDE) -> Figure:
    """A panel for each name under which the trigger measured something, with a line for each firing.

    Args:
        report: with trigger evaluations; the first :data:`modyn.client.trigger_plot.MAX_PANELS` names are drawn.
        size: of the picture.
    """
    drawn = panels(report.trigger_evaluations)[:MAX_PANELS]
    fired = firings(report.trigger_evaluations)
    each = 130 if size.is_narrow else 150
    figure = new_figure(size, 90 + each * max(1, len(drawn)))
    rows: list[Axes] = figure.subplots(max(1, len(drawn)), 1, sharex=True, squeeze=False)[:, 0].tolist()
    if not drawn:
        say(rows[0], size, "nothing was measured")
        return figure
    dates = look_like_dates(np.concatenate([panel.times for panel in drawn]))
    moments = axis_values(fired, dates=dates)
    if len(moments) > MOST_STROKES:
        grid = np.round((moments - moments.min()) / max(float(np.ptp(moments)), 1e-9) * MOST_STROKES)
        moments = moments[np.unique(grid, return_index=True)[1]]
    for axes, panel in zip(rows, drawn, strict=True):
        _draw(axes, panel, moments, dates=dates)
        dress(axes, size)
        axes.set_title(
            short(panel.name or "the trigger", 60), loc="left", fontsize=size.font, parse_math=False, color=INK
        )
    label_time(rows[-1], dates=dates, fontsize=size.font, most=5 if size.is_narrow else 10)
    add_legend(figure, rows[0], size, columns=3, last_first=True)
    return figure


def _draw(axes: Axes, panel: Panel, moments: Float64Array, *, dates: bool) -> None:
    times = axis_values(panel.times, dates=dates)
    if len(moments):
        axes.vlines(
            moments, 0, 1, transform=axes.get_xaxis_transform(), color=FAINT, linewidth=1.2, zorder=1, label="fired"
        )
    for values, color, dashes, label in (
        (panel.threshold, VERMILLION, "--", "threshold"),
        (panel.statistic, BLUE, "-", "statistic"),
    ):
        kept = thinned(values)
        axes.plot(times[kept], values[kept], linestyle=dashes, color=color, linewidth=1.3, zorder=2, label=label)
        alone = lonely(values[kept])
        if not np.isnan(alone).all():
            axes.plot(times[kept], alone, linestyle="", marker="_", markersize=5, color=color, zorder=2)
