"""What a score costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.style import (
    INK,
    MUTED,
    SERIES,
    WIDE,
    Size,
    Where,
    add_legend,
    dress,
    letter,
    new_figure,
    say,
    short,
)
from modyn.client.compared_scores import COSTS, ParetoPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from modyn.client.comparison import Comparison


def pareto_figure(
    comparison: Comparison, *, where: Where | None = None, cost: str = "train_seconds", size: Size = WIDE
) -> Figure:
    """Score against cost, a point per run with the interval of its score; a line joins those that no other run beats.

    Args:
        comparison: of the runs.
        where: handler, dataset and metric; by default the first that the runs share.
        cost: one of :data:`modyn.client.comparison.COSTS`.
        size: of the picture.

    Raises:
        InvalidInputError: there is no such score or cost.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    score, points = comparison.score(where), comparison.points(where, cost)
    rows = len(points) if size.is_narrow else -(-len(points) // 2)
    figure = new_figure(size, (270 if size.is_narrow else 340) + rows * size.font * 1.4)
    axes = figure.add_subplot()
    if not points:
        say(axes, size, "no window in which every run has an active model")
        return figure
    _draw_front(axes, points, size, greater_is_better=score.greater_is_better)
    for point in points:
        color, _, marker = SERIES[point.run % len(SERIES)]
        interval = score.intervals[point.run]
        if interval is not None:
            axes.vlines(point.cost, interval.low, interval.high, color=color, linewidth=1.3, zorder=2)
        name = short(comparison.runs[point.run].name, 34 if size.is_narrow else 48)
        axes.plot(
            point.cost, point.score, linestyle="", marker=marker, color=color, markersize=8, zorder=3,
            label=f"{letter(point.run)}  {name}",
        )  # fmt: skip
        axes.annotate(
            letter(point.run), (point.cost, point.score), xytext=_beside(point, points), textcoords="offset points",
            fontsize=size.font, color=INK, fontweight="bold", zorder=4,
        )  # fmt: skip
    axes.margins(x=0.08, y=0.12)
    _keep_scores_apart(axes, points)
    axes.xaxis.set_major_locator(MaxNLocator(4 if size.is_narrow else 8))
    if max(point.cost for point in points) >= 10_000:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    dress(axes, size, x=short(COSTS[cost][0], 60), y=short(score.where[2], 40), grid="both")
    if min(point.cost for point in points) >= 0:
        axes.set_xlim(left=0)
    add_legend(figure, axes, size, columns=1 if size.is_narrow else 2)
    return figure


def _keep_scores_apart(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    """Long intervals run out of the picture rather than press the scores together."""
    scores = [point.score for point in points]
    room = float(np.ptp(scores)) or 0.1 * abs(scores[0]) or 1.0
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(scores) - room), min(high, max(scores) + room))


def _beside(point: ParetoPoint, points: Sequence[ParetoPoint]) -> tuple[float, float]:
    """Where the letter of a point stands: around it, other than those of earlier runs that lie close to it."""
    width = np.ptp([other.cost for other in points]) or 1.0
    height = np.ptp([other.score for other in points]) or 1.0
    close = sum(
        other.run < point.run
        and abs(other.cost - point.cost) < 0.05 * width
        and abs(other.score - point.score) < 0.15 * height
        for other in points
    )
    return ((7, 5), (7, -15), (-17, 5), (-17, -15))[close % 4]


def _draw_front(axes: Axes, points: list[ParetoPoint], size: Size, *, greater_is_better: bool) -> None:
    front = sorted((point for point in points if point.optimal), key=lambda point: point.cost)
    cost, score = np.array([p.cost for p in front]), np.array([p.score for p in front])
    if len(front) > 1:
        # What more money buys comes with the next run, not between two of them.
        axes.step(cost, score, where="post", color=MUTED, linewidth=1.2, linestyle="--", zorder=1)
    better = "up" if greater_is_better else "down"
    text = f"better: {better} and to the left{chr(10) if size.is_narrow else '; '}dashed: runs that no other beats"
    axes.set_title(text, loc="left", fontsize=size.font - 0.5, color=MUTED)
