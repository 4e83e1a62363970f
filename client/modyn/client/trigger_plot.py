"""A picture of why a trigger fired or did not: statistics and thresholds over data time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.client.explanations import Evaluations, worth_showing
from modyn.client.time_axis import axis_values, label_time, look_like_dates
from modyn.core.errors import InvalidInputError, ModynError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

FORMATS = ("svg", "png")

MAX_PANELS = 16
"""An ensemble of many features has more findings than a page has room for."""

RASTER_FROM = 5_000
"""Points of a panel from which on an SVG holds its curves as pixels: as paths they would be megabytes."""

LARGEST = 1e100
"""Larger numbers are drawn here: axes need room above the largest one."""


@dataclass(frozen=True, eq=False)
class Panel:
    """The findings of one name.

    Attributes:
        name: of the findings; empty: the trigger itself.
        times: data clock of each finding, Unix seconds, int64 [n], ascending.
        statistic, threshold: float64 [n]; NaN where there was none.
    """

    name: str
    times: Int64Array
    statistic: Float64Array
    threshold: Float64Array


def worth_plotting(evaluations: Evaluations) -> bool:
    """Whether a picture says more than the list of triggers."""
    return worth_showing(evaluations) and any(f.statistic is not None for e in evaluations for f in e.findings)


def save_plot(evaluations: Evaluations, path: Path, *, title: str) -> None:
    """Draws one panel per finding name, with a vertical line for each firing.

    Args:
        evaluations: of one pipeline, in order.
        path: ``.svg`` or ``.png``; an existing file is replaced.
        title: of the picture.

    Raises:
        InvalidInputError: another suffix, or there is nothing to draw.
        ModynError: the file cannot be written.
    """
    check_suffix(path)
    if not panels(evaluations):
        raise InvalidInputError(
            f"--plot {path}: there is nothing to draw, as the trigger has not measured anything "
            f"({len(evaluations):,} evaluations)"
        )
    picture = draw(evaluations, path.suffix[1:].lower(), title=title)
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise ModynError(f"--plot {path}: cannot be written: {error.strerror or error}") from error


def check_suffix(path: Path) -> None:
    """
    Raises:
        InvalidInputError: the name of the file does not say what to draw.
    """
    if path.suffix[1:].lower() not in FORMATS:
        raise InvalidInputError(f"--plot {path}: expected a name that ends in {' or '.join(f'.{f}' for f in FORMATS)}")


def draw(evaluations: Evaluations, file_format: str, *, title: str) -> bytes:
    """The picture as the bytes of a file.

    Args:
        evaluations: of one pipeline, in order; at least one measured something.
        file_format: of :data:`FORMATS`.
        title: of the picture.
    """
    figure = _figure(panels(evaluations), firings(evaluations), title)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands for it
        figure.savefig(data, format=file_format, dpi=150)
    return data.getvalue()


def panels(evaluations: Evaluations) -> list[Panel]:
    """One for each finding name under which something was measured, in the order in which the names came."""
    clocks = _clocks(evaluations)
    found: dict[str, list[tuple[int, float | None, float | None]]] = {}
    for evaluation, clock in zip(evaluations, clocks.tolist(), strict=True):
        for finding in evaluation.findings:
            found.setdefault(finding.name, []).append((clock, finding.statistic, finding.threshold))
    return [
        Panel(name, np.array([row[0] for row in rows], np.int64), _numbers(rows, 1), _numbers(rows, 2))
        for name, rows in found.items()
        if any(row[1] is not None for row in rows)
    ]


def _clocks(evaluations: Evaluations) -> Int64Array:
    """Data clock of each evaluation: late data do not move it back."""
    return np.maximum.accumulate(np.array([e.last_timestamp for e in evaluations], np.int64))


def firings(evaluations: Evaluations) -> Int64Array:
    """Data clock of each evaluation that fired, Unix seconds, int64, ascending."""
    fired = np.array([e.decision for e in evaluations], np.bool_)
    return np.unique(_clocks(evaluations)[fired])


def _numbers(rows: Sequence[tuple[Any, ...]], column: int) -> Float64Array:
    values = np.array([np.nan if row[column] is None else row[column] for row in rows], np.float64)
    return np.clip(values, -LARGEST, LARGEST)


def _figure(drawn: list[Panel], firings: Int64Array, title: str) -> Figure:
    # Without pyplot: it keeps figures in a global list and picks a window system.
    from matplotlib.figure import Figure

    left_out = len(drawn) - MAX_PANELS
    drawn = drawn[:MAX_PANELS]
    figure = Figure(figsize=(9.0, 1.3 + 1.7 * len(drawn)), layout="constrained")
    rows: list[Axes] = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0].tolist()
    dates = look_like_dates(np.concatenate([panel.times for panel in drawn]))
    for axes, panel in zip(rows, drawn, strict=True):
        _draw_panel(axes, panel, firings, dates=dates)
    label_time(rows[-1], dates=dates)
    handles, labels = rows[0].get_legend_handles_labels()
    # One legend for all: they look alike in every panel, and none may cover a curve.
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    more = f" ({left_out:,} more findings are left out)" if left_out > 0 else ""
    figure.suptitle(title + more, x=0.01, ha="left", fontsize="medium", parse_math=False)
    return figure


def _draw_panel(axes: Axes, panel: Panel, firings: Int64Array, *, dates: bool) -> None:
    """Told apart by line and marker, not by colour, so that it survives a black-and-white printer."""
    many = max(len(panel.times), len(firings)) >= RASTER_FROM
    size = 3.5 if len(panel.times) <= 200 else 1.5
    times, moments = axis_values(panel.times, dates=dates), axis_values(firings, dates=dates)
    if len(moments):
        lines = axes.vlines(moments, 0, 1, transform=axes.get_xaxis_transform(), color="0.65", linewidth=1.2, zorder=1)
        lines.set_label("fired")
        lines.set_rasterized(many)
    (curve,) = axes.plot(times, panel.threshold, "_--", color="0.35", linewidth=1.1, markersize=size, zorder=2)
    curve.set_label("threshold")
    curve.set_rasterized(many)
    (curve,) = axes.plot(times, panel.statistic, "o-", color="black", linewidth=1.2, markersize=size, zorder=3)
    curve.set_label("statistic")
    curve.set_rasterized(many)
    axes.set_title(panel.name or "the trigger", loc="left", fontsize="small", parse_math=False)
    axes.tick_params(labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)
