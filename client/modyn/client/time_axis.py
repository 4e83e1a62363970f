"""Data time as an axis: dates where timestamps look like dates, else the plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

DATES_FROM = 100_000_000
"""Unix seconds (1973): smaller timestamps are counters, frame numbers or years rather than dates."""

DATES_TO = 4_102_444_800
"""Unix seconds (2100)."""


def look_like_dates(times: Int64Array) -> bool:
    """
    >>> look_like_dates(np.array([831_945_600, 832_032_000])), look_like_dates(np.array([1905, 2013]))
    (True, False)
    """
    return bool(len(times)) and int(times.min()) >= DATES_FROM and int(times.max()) <= DATES_TO


def axis_values(times: Int64Array, *, dates: bool) -> Float64Array:
    """Where moments lie on the axis, float64 as ``times``.

    Args:
        times: Unix seconds, int64.
        dates: as :func:`look_like_dates` said of all that the axis shows.
    """
    if not dates:
        return times.astype(np.float64)
    from matplotlib.dates import date2num

    values: Float64Array = date2num(times.astype("datetime64[s]"))  # type: ignore[no-untyped-call]
    return values


def label_time(axes: Axes, *, dates: bool, fontsize: float | str = "small", most: int | None = None) -> None:
    """Ticks and the label of a horizontal axis of :func:`axis_values`.

    Args:
        axes: to be changed.
        dates: as there.
        fontsize: of the label.
        most: ticks that there is room for; None: as many as matplotlib thinks.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    if not dates:
        if most is not None:
            axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        axes.set_xlabel("data time (timestamps)", fontsize=fontsize)
        return
    locator = AutoDateLocator() if most is None else AutoDateLocator(minticks=2, maxticks=most)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("data time (UTC)", fontsize=fontsize)
