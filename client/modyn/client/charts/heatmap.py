"""The model x window matrix as colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.series import windows_at
from modyn.client.charts.style import (
    HEATMAP,
    INK,
    LARGEST,
    ORANGE,
    WIDE,
    Float64Array,
    Int64Array,
    Size,
    Where,
    add_legend,
    dress,
    new_figure,
    say,
    short,
)
from modyn.client.options import format_time
from modyn.core.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST_ROWS = 240
MOST_COLUMNS = 480
"""Cells of a picture; larger matrices are averaged down to them, or the page would be megabytes."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Scores of models on windows.

    Attributes:
        triggers: index of the trigger of each model, int64 [m], ascending.
        start, end: of each window, int64 [w], in time order, ``end`` exclusive.
        values: float64 [m, w], NaN where a model was not scored or has no value.
        active: row of the currently active model of each window, int64 [w]; -1: none.
        trained: first and last column, exclusive, of the windows that hold new training data of a model, int64 [m, 2];
            equal if there are none.
    """

    triggers: Int64Array
    start: Int64Array
    end: Int64Array
    values: Float64Array
    active: Int64Array
    trained: Int64Array

    @property
    def is_empty(self) -> bool:
        return bool(np.isnan(self.values).all())

    @property
    def is_averaged(self) -> bool:
        """Whether a picture has fewer cells."""
        return len(self.triggers) > MOST_ROWS or len(self.start) > MOST_COLUMNS


def matrix(report: Report, where: Where) -> Matrix:
    """The model x window matrix of a metric; without rows if nothing was scored."""
    handler, dataset, metric = where
    windows = windows_at(report, handler, dataset)
    columns = {(w.start, w.end): column for column, w in enumerate(windows)}
    cells = [
        (e.trigger, columns[e.start, e.end], value)
        for e in report.evaluations
        if e.handler == handler
        and e.dataset == dataset
        and (value := e.metrics.get(metric)) is not None
        and (e.start, e.end) in columns
    ]
    triggers = np.unique(np.array([cell[0] for cell in cells], np.int64))
    values = np.full((len(triggers), len(windows)), np.nan)
    if cells:
        rows = np.searchsorted(triggers, np.array([cell[0] for cell in cells], np.int64))
        scores = np.array([cell[2] for cell in cells], np.float64)
        scores[~np.isfinite(scores)] = np.nan
        values[rows, [cell[1] for cell in cells]] = np.clip(scores, -LARGEST, LARGEST)
    start = np.array([w.start for w in windows], np.int64)
    end = np.array([w.end for w in windows], np.int64)
    active = np.array([-1 if w.active_trigger is None else w.active_trigger for w in windows], np.int64)
    return Matrix(
        triggers, start, end, values, _rows_of(triggers, active), _training_spans(report, triggers, start, end)
    )


def _rows_of(triggers: Int64Array, wanted: Int64Array) -> Int64Array:
    if not len(triggers):
        return np.full(len(wanted), -1, np.int64)
    rows = np.minimum(np.searchsorted(triggers, wanted), len(triggers) - 1)
    return np.where(triggers[rows] == wanted, rows, -1)


def _training_spans(report: Report, triggers: Int64Array, start: Int64Array, end: Int64Array) -> Int64Array:
    spans = {
        t.index: (t.first_timestamp, t.last_timestamp)
        for t in report.triggers
        if t.first_timestamp is not None and t.last_timestamp is not None
    }
    found = np.zeros((len(triggers), 2), np.int64)
    for row, index in enumerate(triggers.tolist()):
        if index in spans:
            first, last = spans[index]
            inside = np.flatnonzero((end > first) & (start <= last))
            if len(inside):
                found[row] = inside[0], inside[-1] + 1
    return found


def heatmap_figure(report: Report, where: Where, *, size: Size = WIDE) -> Figure:
    """Every model on every window: rows are triggers, the first below; columns are windows in time order.

    Windows that hold the new training data of a model are framed, and the model that was active on a window is marked.

    Args:
        report: with evaluations.
        where: handler, dataset and metric.
        size: of the picture.
    """
    return matrix_figure(matrix(report, where), where[2], size=size)


def matrix_figure(found: Matrix, metric: str, *, size: Size = WIDE) -> Figure:
    """As :func:`heatmap_figure`, of a matrix that is at hand."""
    height = min(max(150.0, 90 + 11.0 * len(found.triggers)), 420 if size.is_narrow else 520)
    figure = new_figure(size, height)
    axes = figure.add_subplot()
    if found.is_empty:
        say(axes, size, "no model was scored")
        return figure
    rows, columns = found.values.shape
    low, high = float(np.nanmin(found.values)), float(np.nanmax(found.values))
    image = axes.imshow(
        averaged(found.values, MOST_ROWS, MOST_COLUMNS),
        origin="lower",
        aspect="auto",
        interpolation="none",
        extent=(-0.5, columns - 0.5, -0.5, rows - 0.5),
        cmap=HEATMAP,
        vmin=low,
        vmax=high if high > low else low + 1e-9,
    )
    _frame_training(axes, found)
    _mark_active(axes, found)
    dress(axes, size, x="evaluation window, from", y="model of trigger", grid=None)
    _label_cells(axes, found, size)
    _colour_bar(figure, image, size, short(metric, 40))
    add_legend(figure, axes, size, columns=1 if size.is_narrow else 2)
    return figure


def averaged(values: Float64Array, rows: int, columns: int) -> Float64Array:
    """A matrix of at most so many cells, each the mean of the defined values in its block.

    >>> averaged(np.array([[1.0, 3.0, 5.0, np.nan]]), 1, 2)
    array([[2., 5.]])
    """
    for axis, most in ((0, rows), (1, columns)):
        if values.shape[axis] > most:
            edges = np.linspace(0, values.shape[axis], most + 1).astype(np.int64)[:-1]
            known = ~np.isnan(values)
            sums = np.add.reduceat(np.where(known, values, 0.0), edges, axis=axis)
            counts = np.add.reduceat(known.astype(np.float64), edges, axis=axis)
            values = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return values


def _frame_training(axes: Axes, found: Matrix) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    if len(found.triggers) > MOST_ROWS:
        return
    frames = [
        Rectangle((first - 0.5, row - 0.5), behind - first, 1)
        for row, (first, behind) in enumerate(found.trained.tolist())
        if behind > first
    ]
    if frames:
        axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor=ORANGE, linewidth=1.3))
        axes.add_line(Line2D([], [], color=ORANGE, linewidth=1.6, label="windows with its new training data"))


def _mark_active(axes: Axes, found: Matrix) -> None:
    columns = np.flatnonzero(found.active >= 0)
    if not len(columns):
        return
    rows = found.active[columns].astype(np.float64)
    if len(columns) <= 150:
        axes.plot(
            columns, rows, linestyle="", marker="o", markersize=3.2, markerfacecolor="#ffffff", markeredgecolor=INK,
            markeredgewidth=0.9, label="active model",
        )  # fmt: skip
    else:
        axes.step(columns, rows, where="mid", color="#ffffff", linewidth=1.6)
        axes.step(columns, rows, where="mid", color=INK, linewidth=0.8, label="active model")


def _label_cells(axes: Axes, found: Matrix, size: Size) -> None:
    columns, rows = len(found.start), len(found.triggers)
    places = np.unique(np.linspace(0, columns - 1, min(columns, 3 if size.is_narrow else 6)).round().astype(np.int64))
    axes.set_xticks(places.tolist(), [format_time(int(found.start[p]))[:10] for p in places])
    labels = axes.get_xticklabels()
    if len(labels) > 1:  # the outer ones must not stick out
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")
    places = np.unique(np.linspace(0, rows - 1, min(rows, 8)).round().astype(np.int64))
    axes.set_yticks(places.tolist(), [str(int(found.triggers[p])) for p in places])


def _colour_bar(figure: Figure, image: AxesImage, size: Size, label: str) -> None:
    bar = figure.colorbar(image, ax=image.axes, fraction=0.05 if size.is_narrow else 0.03, pad=0.02)
    bar.ax.tick_params(labelsize=size.font - 0.5, colors=INK, length=3)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=size.font, color=INK, parse_math=False)
