"""Drift triggers on streams whose changes are known: what they find, how late, and how often they cry wolf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy import ndimage

from modyn.core.arrow import Int64Array
from modyn.core.plugins.drift import DRIFT_METRICS
from modyn.core.plugins.triggers import Arrivals, Evaluation, Features, TrainingOutcome
from modyn.supervisor.drift.criteria import HypothesisTestCriterion
from modyn.supervisor.drift.windows import AmountWindowingStrategy
from modyn.supervisor.triggers.drift import DataDriftTrigger
from tests.helpers.observing import ArrayObserver

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

METRICS = ("MMD", "CrossMMD", "KolmogorovSmirnov", "CramerVonMises", "ClassifierTwoSample", "MeanDistance", "Hellinger")

KINDS = ("mean", "scale", "correlation", "mixture")
"""Of changes of a covariate stream."""

PERIOD = 3_000
"""Samples between two changes of the stream of interchanging Gaussians."""

SIMILAR_DIGITS = 5_000
"""Test digits written by one group of people, in no order. Those after them are by others, ordered by writer."""


@dataclass(frozen=True)
class Row:
    """What a trigger with one metric found on one kind of stream.

    Attributes:
        stream, metric: their names.
        num_changes: known changes in all runs.
        share: of them after which it fired before the next one.
        delay: mean samples from a change to that firing; NaN if there is none.
        false_alarms: firings that no change accounts for.
        num_evaluations: of all runs.
    """

    stream: str
    metric: str
    num_changes: int
    share: float
    delay: float
    false_alarms: int
    num_evaluations: int


def rows(metrics: Sequence[str] = METRICS, *, runs: int = 10) -> list[Row]:
    """All streams by all metrics; those whose data are not there are left out. Takes about a minute with ten runs."""
    found = [covariate_row(kind, metric, runs=runs) for kind in ("none", *KINDS) for metric in metrics]
    if DATA.exists():
        for degrees in (10, 30):
            found += [digits_row(degrees, metric) for metric in metrics]
        found += [sea_row(metric) for metric in metrics]
        found += [row for metric in metrics for row in gaussians_rows(metric)]
    return found


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| stream | metric | changes | share | delay | false alarms | evaluations |", "|---|---|" + "---:|" * 5]
    for row in rows:
        share = "–" if np.isnan(row.share) else f"{row.share:.2f}"
        delay = "–" if np.isnan(row.delay) else f"{row.delay:,.0f}"
        counts = f"{row.false_alarms} | {row.num_evaluations:,}"
        lines.append(f"| {row.stream} | {row.metric} | {row.num_changes} | {share} | {delay} | {counts} |")
    return "\n".join(lines) + "\n"


def covariate_row(kind: str, metric: str, *, runs: int) -> Row:
    """10,000 samples, the change at 5,200; ``kind`` as for :func:`covariate_stream`."""
    changes = [] if kind == "none" else [5_200]
    watched = [
        watch(drift_trigger(metric), covariate_stream(kind, 10_000, 5_200, seed=seed), seed=seed)
        for seed in range(runs)
    ]
    return _row(f"8 Gaussian columns: {kind}", metric, [found(run, changes) for run in watched])


def digits_row(degrees: float, metric: str) -> Row:
    """Digits in 49 squares, rotated from 2,200, 2,700 or 3,100 on."""
    runs = [
        found(watch(drift_trigger(metric), rotated_digits(change, degrees=degrees)), [change])
        for change in (2_200, 2_700, 3_100)
    ]
    return _row(f"digits rotated by {degrees:g} degrees", metric, runs)


def sea_row(metric: str) -> Row:
    """SEA, whose concept changes three times while its inputs stay as they are: every firing is a false alarm."""
    trigger = drift_trigger(metric, interval=1_000, reference=1_000, current=1_000)
    return _row("SEA inputs (never change)", metric, [found(watch(trigger, parquet_columns("sea.parquet")), [])])


def gaussians_rows(metric: str) -> list[Row]:
    """15 Gaussians that change places, 66 times, with and without their labels as features; a row per 11 changes.

    What the inputs look like does not change, only which label is where: there is nothing to be seen without labels.
    """
    inputs = parquet_columns("interchanging_rbf.parquet")
    labels = pq.read_table(DATA / "interchanging_rbf.parquet")["label"].to_numpy()
    with_labels = np.concatenate((inputs, np.eye(15, dtype=np.float32)[labels]), axis=1)
    changes = list(range(PERIOD, len(inputs), PERIOD))
    table = []
    for name, features in (("inputs", inputs), ("inputs and labels", with_labels)):
        watched = watch(drift_trigger(metric, interval=1_000, reference=1_000, current=1_000), features)
        for first in range(0, len(changes), 11):
            part = watched.between(changes[first], changes[first] + 11 * PERIOD)
            stream = f"interchanging Gaussians, {name}, changes {first + 1} to {first + 11}"
            table.append(_row(stream, metric, [found(part, changes[first : first + 11])]))
    return table


def _row(stream: str, metric: str, runs: Sequence[Found]) -> Row:
    delays = [delay for run in runs for delay in run.delays]
    changes = sum(run.num_changes for run in runs)
    return Row(
        stream,
        metric,
        num_changes=changes,
        share=len(delays) / changes if changes else float("nan"),
        delay=float(np.mean(delays)) if delays else float("nan"),
        false_alarms=sum(len(run.false_alarms) for run in runs),
        num_evaluations=sum(run.num_evaluations for run in runs),
    )


@dataclass(frozen=True, eq=False)
class Watched:
    """What a trigger did on a stream.

    Attributes:
        fired: samples seen at each firing after the first, int64.
        looked: samples seen at each evaluation, int64.
        evaluations: of the trigger.
        reference: samples of the reference window.
    """

    fired: Int64Array
    looked: Int64Array
    evaluations: tuple[Evaluation, ...]
    reference: int

    def between(self, start: int, end: int) -> Watched:
        """After ``start`` samples, up to ``end``."""
        looks = (self.looked > start) & (self.looked <= end)
        evaluations = tuple(self.evaluations[i] for i in np.flatnonzero(looks))
        fired = self.fired[(self.fired > start) & (self.fired <= end)]
        return Watched(fired, self.looked[looks], evaluations, self.reference)


def drift_trigger(
    *metrics: str, alpha: float = 0.01, interval: int = 500, reference: int = 1_000, current: int = 500
) -> DataDriftTrigger:
    """Metrics with a hypothesis test each, on the columns of the samples."""
    criterion = HypothesisTestCriterion(alpha=alpha, permutations=max(100, ceil(1 / alpha) - 1))
    return DataDriftTrigger(
        evaluation_interval_data_points=interval,
        windowing_strategy=AmountWindowingStrategy(amount_ref=reference, amount_cur=current),
        metrics={name: DRIFT_METRICS.parse({"id": name, "decision_criterion": criterion}) for name in metrics},
        features="columns",
    )


def watch(trigger: DataDriftTrigger, features: Features, *, seed: int = 0) -> Watched:
    """Runs a trigger over a stream of samples; every firing is followed by a training."""
    observer = ArrayObserver(features, seed=seed)
    stream = Arrivals(np.arange(len(features)), np.arange(len(features)))
    state, position = trigger.initial_state(), 0
    fired: list[int] = []
    evaluations: list[Evaluation] = []
    while True:
        step = trigger.next_firing(state, stream.from_position(position), observer)
        state = step.state
        evaluations += step.evaluations
        if step.firing is None:
            break
        position += step.firing.position
        fired.append(position)
        state = trigger.after_training(state, TrainingOutcome(len(fired), f"model {len(fired)}", position, 1.0))
    looked = np.cumsum([evaluation.num_samples for evaluation in evaluations])
    strategy = trigger.windowing_strategy
    assert isinstance(strategy, AmountWindowingStrategy)
    return Watched(np.array(fired[1:], dtype=np.int64), looked, tuple(evaluations), strategy.amount_ref)


@dataclass(frozen=True)
class Found:
    """How firings match known changes.

    Attributes:
        num_changes: how many there are.
        delays: samples from a change to the first firing after it, of those with one before the next change.
        false_alarms: samples seen at the firings that no change accounts for.
        num_evaluations: how often the trigger looked.
    """

    num_changes: int
    delays: tuple[int, ...]
    false_alarms: tuple[int, ...]
    num_evaluations: int


def found(watched: Watched, changes: Sequence[int]) -> Found:
    """Compares firings with changes.

    A further firing after the same change is accounted for as long as the reference still holds samples from before
    the change, which is so if its training came too early after it.

    Args:
        changes: positions of the first samples after each change, ascending.
    """
    delays, false_alarms = [], []
    found_last, trained = -1, 0
    for position in watched.fired.tolist():
        newest = int(np.searchsorted(changes, position)) - 1
        if newest > found_last:
            found_last = newest
            delays.append(position - changes[newest])
        elif newest < 0 or trained - watched.reference >= changes[newest]:
            false_alarms.append(position)
        trained = position
    return Found(len(changes), tuple(delays), tuple(false_alarms), len(watched.looked))


def covariate_stream(kind: str, length: int, change: int, *, seed: int = 0, width: int = 8) -> Features:
    """Independent Gaussian samples whose distribution changes at some sample, float32 [length, width].

    Args:
        kind: ``mean`` (of all columns by a third of their deviation), ``scale`` (by 1.4), ``correlation`` (of
            neighbouring columns from .6 to -.2; columns by themselves stay as they are), ``mixture`` (15 % of the
            samples come from elsewhere, two deviations away) or ``none``.
    """
    rng = np.random.default_rng([seed, length])
    rows = rng.normal(size=(length, width)) @ _root(0.6, width)
    later = rows[change:]
    if kind == "mean":
        later += 1 / 3
    elif kind == "scale":
        later *= 1.4
    elif kind == "correlation":
        later[:] = rng.normal(size=later.shape) @ _root(-0.2, width)
    elif kind == "mixture":
        later[rng.random(len(later)) < 0.15] += 2
    elif kind != "none":
        raise ValueError(f"kind {kind!r}: expected mean, scale, correlation, mixture or none")
    return rows.astype(np.float32)


def _root(correlation: float, width: int) -> npt.NDArray[np.float64]:
    """Turns independent columns into ones that correlate by ``correlation ** |i - j|``, float64 [width, width]."""
    places = np.arange(width)
    distances = np.abs(places[:, None] - places)
    root: npt.NDArray[np.float64] = np.linalg.cholesky(np.power(float(correlation), distances)).T
    return root


def rotated_digits(change: int, *, degrees: float = 30.0, size: int = 7) -> Features:
    """MNIST test digits, rotated from some sample on and averaged over squares, float32 [5,000, size * size].

    Raises:
        FileNotFoundError: the data are not there.
    """
    images: Features = np.load(DATA / "mnist_test_10k.npz")["images"][:SIMILAR_DIGITS].astype(np.float32) / 255
    images[change:] = ndimage.rotate(images[change:], degrees, axes=(2, 1), reshape=False, order=1)
    step = images.shape[1] // size
    squares: Features = images.reshape(len(images), size, step, size, step).mean(axis=(2, 4), dtype=np.float32)
    return squares.reshape(len(images), size * size)


def parquet_columns(name: str) -> Features:
    """The input columns of a stream of the data at hand, float32 [n, d].

    Raises:
        FileNotFoundError: the data are not there.
    """
    table = pq.read_table(DATA / name)
    names = [column for column in table.column_names if column not in ("timestamp", "label")]
    return np.stack([table[column].to_numpy() for column in names], axis=1).astype(np.float32)
