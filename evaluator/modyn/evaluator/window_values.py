"""Metrics of many windows of the same outcomes, which may overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import ModynError
from modyn.core.plugins.evaluation import DecomposableMetric, Float64Array, Metric, Outcomes
from modyn.evaluator.metrics.class_counts import class_columns
from modyn.evaluator.sums import count_stretches, range_sums
from modyn.evaluator.uncertainty import block_edges, holistic_interval, statistic_intervals
from modyn.models.usercode import describe_error

MAX_HOLISTIC_INTERVAL_SAMPLES = 50_000
"""Of all windows of a model together: an interval of a metric that is no sum takes it dozens of times, so there is none
beyond this many samples."""

MAX_INTERVAL_STATISTICS = 1 << 19
"""Of all windows of a model together: an interval of a metric that is a sum draws each number of its statistics about a
thousand times, so there is none beyond this many numbers, which take some ten seconds. Accuracy has two for each
window, F1 three or four for each class as well."""

MAX_CONFUSION_CLASSES = 50
"""More classes make no readable matrix."""

_BUDGET = 1 << 24
"""Numbers kept at once, 128 MiB; windows are worked on in groups that need less."""

_DRAWN = 1 << 14
"""Statistics, over all windows, of one call for intervals, which makes some hundred of each."""


@dataclass(eq=False)
class MetricResults:
    """A metric on w windows.

    Attributes:
        values: float64 [w], NaN where undefined, infinite or failed.
        low, high: bounds of the confidence intervals, float64 [w], NaN where there is none.
        classes: of each window, the values of single classes.
        failures: why windows have no value, by window.
    """

    values: Float64Array
    low: Float64Array
    high: Float64Array
    classes: list[dict[int, float | None]]
    failures: dict[int, str] = field(default_factory=dict)

    def fill(self, windows: Int64Array, results: MetricResults) -> None:
        """Takes over what came of some windows."""
        self.values[windows], self.low[windows], self.high[windows] = results.values, results.low, results.high
        for window, classes in zip(windows.tolist(), results.classes, strict=True):
            self.classes[window] = classes

    @staticmethod
    def nothing(count: int) -> MetricResults:
        values, low, high = (np.full(count, np.nan) for _ in range(3))
        return MetricResults(values, low, high, [{} for _ in range(count)])


@dataclass(frozen=True)
class Confidence:
    """Of intervals: their level, such as 0.95, and the seed of what they draw."""

    level: float
    seed: int = 0


@dataclass(frozen=True, eq=False)
class WindowedOutcomes:
    """What one subject said, and windows of it.

    Attributes:
        outcomes: n of them.
        starts, stops: positions, int64 [w] each; no window is empty.
    """

    outcomes: Outcomes
    starts: Int64Array
    stops: Int64Array

    def __len__(self) -> int:
        return len(self.starts)

    def window(self, index: int) -> Outcomes:
        return taken(self.outcomes, slice(int(self.starts[index]), int(self.stops[index])))

    def covered(self) -> WindowedOutcomes:
        """All windows, and only the outcomes that are in one."""
        return self.only(np.arange(len(self))) if len(self) else self

    def only(self, windows: Int64Array) -> WindowedOutcomes:
        """Some windows, and the outcomes that are in at least one of them."""
        starts, stops = self.starts[windows], self.stops[windows]
        order = np.argsort(starts, kind="stable")
        reach = np.maximum.accumulate(stops[order])
        begins = np.concatenate(([0], np.flatnonzero(starts[order][1:] > reach[:-1]) + 1))  # of runs without a gap
        run_starts, run_stops = starts[order][begins], reach[np.append(begins[1:], len(order)) - 1]
        offsets = np.concatenate(([0], np.cumsum(run_stops - run_starts)))[:-1] - run_starts
        shift = offsets[np.searchsorted(run_starts, starts, side="right") - 1]
        if len(begins) == 1:
            rows: slice | Int64Array = slice(int(run_starts[0]), int(run_stops[0]))
        else:
            rows = np.concatenate([np.arange(a, b) for a, b in zip(run_starts, run_stops, strict=True)])
        return WindowedOutcomes(taken(self.outcomes, rows), starts + shift, stops + shift)


def taken(outcomes: Outcomes, rows: slice | Int64Array) -> Outcomes:
    """Some of the outcomes."""
    return Outcomes(
        outcomes.labels[rows],
        outcomes.predictions[rows],
        None if outcomes.scores is None else outcomes.scores[rows],
        None if outcomes.targets is None else outcomes.targets[rows],
    )


def score_windows(metric: Metric, windows: WindowedOutcomes, confidence: Confidence | None) -> MetricResults:
    """A metric on every window. Where it fails on some, the others still have values.

    Args:
        windows: whose outcomes are in at least one of them each (:meth:`WindowedOutcomes.covered`): a metric need not
            take others.
        confidence: of the intervals; None: there are none.
    """
    if not len(windows):
        return MetricResults.nothing(0)
    try:
        return _score(metric, windows, confidence)
    except Exception:  # noqa: BLE001 - a metric of others can raise anything; which windows is it?
        failures = _failures(metric, windows)
    results = MetricResults.nothing(len(windows))
    good = np.array([index for index in range(len(windows)) if index not in failures], dtype=np.int64)
    if len(good):
        try:
            results.fill(good, _score(metric, windows.only(good), confidence))
        except Exception as error:  # noqa: BLE001 - each window alone is fine, all of them together are not
            failures.update(dict.fromkeys(good.tolist(), said(metric, error)))
    results.failures = failures
    return results


def said(metric: Metric, error: Exception) -> str:
    """What a metric raised, for the user."""
    if isinstance(error, ModynError):
        return error.message
    return f"metric {metric.plugin_name} raised {describe_error(error)}"


def _failures(metric: Metric, windows: WindowedOutcomes) -> dict[int, str]:
    found = {}
    for index in range(len(windows)):
        try:
            metric.score(windows.window(index))
        except Exception as error:  # noqa: BLE001 - it is told to the user
            found[index] = said(metric, error)
    return found


def _score(metric: Metric, windows: WindowedOutcomes, confidence: Confidence | None) -> MetricResults:
    results = MetricResults.nothing(len(windows))
    with np.errstate(all="ignore"):  # of outputs that are no numbers
        if isinstance(metric, DecomposableMetric):
            _decomposed(metric, windows, results, confidence)
        else:
            _whole(metric, windows, results, confidence)
    results.values[~np.isfinite(results.values)] = np.nan
    if metric.bounds is not None:
        for bound in (results.low, results.high):
            np.clip(bound, *metric.bounds, out=bound)
    return results


# --------------------------------------------------------------------------------------------------- sums over samples


def _decomposed(
    metric: DecomposableMetric,
    windows: WindowedOutcomes,
    results: MetricResults,
    confidence: Confidence | None,
) -> None:
    """Statistics are computed once for every stretch between two edges of windows or blocks, and then summed."""
    width = _width(metric, windows.outcomes)
    if len(windows) * width > MAX_INTERVAL_STATISTICS:
        confidence = None
    for group in _groups(windows, width * (1 if confidence is None else _MOST_BLOCKS)):
        part = windows.only(group)
        sizes = part.stops - part.starts
        if confidence is None:
            edges = [np.array([0, size]) for size in sizes.tolist()]
        else:
            edges = [_blocks(size) for size in sizes.tolist()]
        counts = np.array([len(own) - 1 for own in edges])
        edges = [own + start for own, start in zip(edges, part.starts.tolist(), strict=True)]
        cuts = np.unique(np.concatenate(edges))
        begins = np.searchsorted(cuts, np.concatenate([own[:-1] for own in edges]))
        ends = np.searchsorted(cuts, np.concatenate([own[1:] for own in edges]))
        blocks = range_sums(metric.statistics(part.outcomes, cuts), begins, ends)
        first = np.cumsum(counts) - counts
        whole = np.add.reduceat(blocks, first, axis=0)
        results.values[group] = metric.values(whole)
        for index, row in zip(group.tolist(), whole, strict=True):
            results.classes[index] = metric.class_values(row)
        if confidence is None:
            continue
        for count in np.unique(counts[counts > 1]).tolist():
            alike = np.flatnonzero((counts == count) & ~np.isnan(results.values[group]))
            for some in np.array_split(alike, len(alike) * width // _DRAWN + 1):
                own = blocks[first[some, None] + np.arange(count)]
                low, high = statistic_intervals(
                    own,
                    metric.values,
                    level=confidence.level,
                    seed=confidence.seed,
                    samples=sizes[some] if metric.is_mean and metric.bounds == (0.0, 1.0) else None,
                )
                results.low[group[some]], results.high[group[some]] = low, high


_blocks: Callable[[int], Int64Array] = cache(block_edges)

_MOST_BLOCKS = len(block_edges(1 << 40)) - 1


def _width(metric: DecomposableMetric, outcomes: Outcomes) -> int:
    """How many numbers a row of statistics may have, at most."""
    labels, predictions = outcomes.labels, outcomes.predictions
    ends = [int(place) for own in (labels, predictions) for place in (own.argmin(), own.argmax())]
    widest = taken(outcomes, np.array(ends))
    one = taken(outcomes, slice(0, 1))
    one = Outcomes(one.labels, one.labels, one.scores, one.targets)
    of_one, of_widest = (int(metric.statistics(own, np.array([0, len(own)])).shape[1]) for own in (one, widest))
    if of_one == of_widest:
        return of_one
    # It has columns for each class, of which there are so many at most.
    occurring = np.concatenate([widest.labels, widest.predictions])
    spread = int(occurring.max()) - int(occurring.min())
    return max(of_widest, 4 * min(spread + 1, 2 * len(outcomes)))


def _groups(windows: WindowedOutcomes, width: int) -> Iterator[Int64Array]:
    """Windows in order of time, so many at once that ``width`` numbers for each fit into the budget."""
    order = np.argsort(windows.starts, kind="stable")
    yield from np.array_split(order, min(len(order), len(order) * width // _BUDGET + 1))


# ----------------------------------------------------------------------------------------------- whole windows at once


def _whole(
    metric: Metric,
    windows: WindowedOutcomes,
    results: MetricResults,
    confidence: Confidence | None,
) -> None:
    samples = int((windows.stops - windows.starts).sum())
    intervals = confidence is not None and samples <= MAX_HOLISTIC_INTERVAL_SAMPLES
    bounds = metric.bounds if metric.bounds is not None and np.isfinite(metric.bounds).all() else None
    for index in range(len(windows)):
        own = windows.window(index)
        value = metric.score(own)
        results.classes[index] = metric.score_classes(own)
        if value is None:
            continue
        results.values[index] = value
        if confidence is None or not intervals:
            continue

        def of_rows(rows: Int64Array, own: Outcomes = own) -> float | None:
            return metric.score(taken(own, rows))

        interval = holistic_interval(of_rows, len(own), level=confidence.level, bounds=bounds)
        if interval is not None:
            results.low[index], results.high[index] = interval.low, interval.high


# --------------------------------------------------------------------------------------------------------- confusion


def confusions(windows: WindowedOutcomes) -> list[tuple[Int64Array, Int64Array, Int64Array]] | None:
    """Of each window, the pairs of label and prediction that occur and how often each does; None if there are more
    than :data:`MAX_CONFUSION_CLASSES` classes in all windows together."""
    if not len(windows):
        return []
    part = windows.covered()
    (labels, predictions), classes = class_columns(part.outcomes.labels, part.outcomes.predictions)
    if len(classes) > MAX_CONFUSION_CLASSES:  # but do all of them occur?
        occurring = np.zeros(len(classes), dtype=np.bool_)
        occurring[labels] = occurring[predictions] = True
        number, classes = np.cumsum(occurring) - 1, classes[occurring]
        if len(classes) > MAX_CONFUSION_CLASSES:
            return None
        labels, predictions = number[labels], number[predictions]
    width = len(classes)
    pairs = labels * width + predictions
    found: list[tuple[Int64Array, Int64Array, Int64Array]] = [(classes[:0],) * 3] * len(windows)
    for group in _groups(part, width * width):
        some = WindowedOutcomes(Outcomes(pairs, pairs), part.starts, part.stops).only(group)
        cuts = np.unique(np.concatenate([some.starts, some.stops]))
        rows = count_stretches(some.outcomes.labels, cuts, width * width)
        sums = range_sums(rows, np.searchsorted(cuts, some.starts), np.searchsorted(cuts, some.stops))
        for index, row in zip(group.tolist(), sums, strict=True):
            there = np.flatnonzero(row)
            found[index] = (classes[there // width], classes[there % width], row[there].astype(np.int64))
    return found
