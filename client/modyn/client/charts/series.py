"""Columns out of a report, and curves of so many points that a page can hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modyn.client.charts.style import Float64Array, Int64Array, Where, finite
from modyn.core.report import Report, WindowPart

MAX_POINTS = 2_000
"""Of a curve in a picture: more than twice its pixels."""


@dataclass(frozen=True, eq=False)
class WindowScores:
    """One metric over the windows of one handler and dataset, in time order; float64 [n] with NaN for none.

    Attributes:
        start, end: of each window, Unix seconds, int64 [n], ``end`` exclusive.
        active, trained: of the currently active and trained model.
        low, high: ends of the confidence interval of ``active``.
        baselines: by name, those that are defined somewhere.
    """

    start: Int64Array
    end: Int64Array
    active: Float64Array
    trained: Float64Array
    low: Float64Array
    high: Float64Array
    baselines: dict[str, Float64Array]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def middle(self) -> Int64Array:
        """Where a window's score is drawn, int64 [n]."""
        return self.start + (self.end - self.start) // 2


def windows_at(report: Report, handler: str, dataset: str) -> list[WindowPart]:
    """The windows of a handler and dataset in time order."""
    found = [w for w in report.windows if w.handler == handler and w.dataset == dataset]
    return sorted(found, key=lambda w: (w.start + w.end, w.start))


def window_scores(report: Report, where: Where) -> WindowScores:
    """The columns behind a composite curve; empty if there is nothing there."""
    handler, dataset, metric = where
    scored = [(w, w.scores[metric]) for w in windows_at(report, handler, dataset) if metric in w.scores]
    names = list(dict.fromkeys(name for _, score in scored for name in score.baselines))
    baselines = {name: finite([score.baselines.get(name) for _, score in scored]) for name in names}
    intervals = [score.interval for _, score in scored]
    return WindowScores(
        start=np.array([w.start for w, _ in scored], np.int64),
        end=np.array([w.end for w, _ in scored], np.int64),
        active=finite([score.currently_active for _, score in scored]),
        trained=finite([score.currently_trained for _, score in scored]),
        low=finite([None if interval is None else interval.low for interval in intervals]),
        high=finite([None if interval is None else interval.high for interval in intervals]),
        baselines={name: values for name, values in baselines.items() if not np.isnan(values).all()},
    )


def thinned(values: Float64Array, most: int = MAX_POINTS) -> Int64Array:
    """Positions of points that draw the same curve, int64, ascending.

    All of them if there are few enough; else of each of ``most / 4`` stretches the first, the smallest, the largest and
    the last (M4, Jugel et al. 2014), so that no peak is lost. Undefined points are kept where a stretch has no other.

    Args:
        values: float64 [n], NaN for none.
        most: about how many points may stay.
    """
    count = len(values)
    if count <= most:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, max(1, most // 4) + 1).astype(np.int64)
    kept: list[int] = []
    for first, behind in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        stretch = values[first:behind]
        kept += [first, behind - 1]
        if not np.isnan(stretch).all():
            kept += [first + int(np.nanargmin(stretch)), first + int(np.nanargmax(stretch))]
    return np.unique(np.array(kept, np.int64))


def lonely(values: Float64Array) -> Float64Array:
    """Values without a neighbour, the others NaN: a line alone would not show them.

    >>> lonely(np.array([1.0, np.nan, 2.0, 3.0]))
    array([ 1., nan, nan, nan])
    """
    known = ~np.isnan(values)
    padded = np.concatenate([[False], known, [False]])
    return np.where(known & ~padded[:-2] & ~padded[2:], values, np.nan)
