"""Where the time of each trigger went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    WIDE,
    Float64Array,
    Size,
    add_legend,
    dress,
    finite,
    new_figure,
    say,
)
from modyn.core.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES = (("select", PURPLE), ("start", ORANGE), ("train", BLUE), ("store", GREEN), ("evaluate", VERMILLION))
"""In the order in which they happen."""

MOST_BARS = 300
"""Of more triggers, bars are means of as many neighbours as it takes."""


def timeline_figure(report: Report, *, size: Size = WIDE) -> Figure:
    """Seconds of each stage of each trigger, stacked; reused trainings, with their original seconds, are marked below
    their bar.

    Args:
        report: of a run.
        size: of the picture.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(size, 260 if size.is_narrow else 300)
    axes = figure.add_subplot()
    if not report.triggers:
        say(axes, size, "no trigger fired")
        return figure
    together = -(-len(report.triggers) // MOST_BARS)
    index = np.array([t.index for t in report.triggers], np.float64)[::together]
    edges = np.append(index, index[-1] + together) - 0.5
    below = np.zeros(len(index))
    for name, color in STAGES:
        seconds = np.nan_to_num(finite([getattr(t.seconds, name) for t in report.triggers]))
        above = below + _means(seconds, together)
        axes.stairs(above, edges, baseline=below, fill=True, color=color, linewidth=0, label=name)
        below = above
    reused = _means(np.array([t.reused for t in report.triggers], np.float64), together) > 0
    if reused.any():
        middle = index[reused] + (together - 1) / 2
        axes.plot(
            middle, np.zeros(len(middle)), linestyle="", marker="^", markersize=5, color=INK, clip_on=False,
            label="reused",
        )  # fmt: skip
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(float(below.max()) * 1.05, 1e-6))
    axes.xaxis.set_major_locator(MaxNLocator(6 if size.is_narrow else 10, integer=True))
    dress(axes, size, x="trigger", y="seconds" if together == 1 else f"seconds, mean of {together} triggers")
    add_legend(figure, axes, size, columns=3)
    return figure


def _means(values: Float64Array, together: int) -> Float64Array:
    starts = np.arange(0, len(values), together)
    counts = np.diff(np.append(starts, len(values)))
    means: Float64Array = np.add.reduceat(values, starts) / counts
    return means
