"""A score of several runs on the windows that all of them have: means, intervals, differences, what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from modyn.core.report import CostPart, DifferencePart, IntervalPart
from modyn.evaluator.uncertainty import interval_part, mean_interval, paired_interval, repetition_interval

Float64Array: TypeAlias = npt.NDArray[np.float64]
Where: TypeAlias = tuple[str, str, str]
"""Handler, dataset and metric (a score name)."""

DEFAULT_LEVEL = 0.95
"""Of confidence intervals."""


def total_seconds(cost: CostPart) -> float:
    """What keeping the models up to date took: trigger, selection, start of jobs, training and storing.

    Evaluation is left out, as it measures the policy and is no part of it.
    """
    return cost.trigger_seconds + cost.select_seconds + cost.start_seconds + cost.train_seconds + cost.store_seconds


COSTS: Mapping[str, tuple[str, Callable[[CostPart], float]]] = {
    "train_seconds": ("seconds trained", lambda cost: cost.train_seconds),
    "samples_trained": ("samples trained (passes)", lambda cost: float(cost.samples_trained)),
    "trainings": ("trainings", lambda cost: float(cost.trainings)),
    "total_seconds": ("seconds of triggering, selecting, training and storing", total_seconds),
}
"""What a score can be weighed against, with a description; reused results count with their original cost."""


@dataclass(frozen=True)
class SeedGroup:
    """Runs that equal each other but for their seed.

    Attributes:
        runs: their positions in the comparison, at least two, of different seeds.
        seeds: theirs.
    """

    runs: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class GroupScore:
    """A score over the runs of a :class:`SeedGroup`.

    Attributes:
        group: the runs.
        values: the mean over the common windows of each run.
        mean: over the seeds.
        interval: Student's t interval of the mean; None with one value.
    """

    group: SeedGroup
    values: tuple[float, ...]
    mean: float
    interval: IntervalPart | None


@dataclass(frozen=True)
class ParetoPoint:
    """A run as a point of an accuracy-versus-cost plot.

    Attributes:
        run: its position in the comparison.
        cost: in the unit of the cost.
        score: mean over the common windows.
        optimal: no other run is at least as cheap and at least as good, and better in one of both.
    """

    run: int
    cost: float
    score: float
    optimal: bool


@dataclass(frozen=True, eq=False)
class ComparedScore:
    """One metric over all runs, on the windows in which every run has an active model and the metric a value.

    Attributes:
        where: handler, dataset, metric.
        greater_is_better: False for losses and errors.
        composite: the currently active score of each run over its own windows, as its report says.
        windows: start and end of the common windows, int64 [n, 2], ascending.
        values: currently active score of each run on them, float64 [runs, n].
        baselines: scores without a model on them, by name, of the first run: float64 [n], NaN where there is none.
        level: of the intervals.
        groups: see :attr:`Comparison.groups`.
        bounds: smallest and largest value of the metric; None: any.
    """

    where: Where
    greater_is_better: bool
    composite: list[float | None]
    windows: npt.NDArray[np.int64]
    values: Float64Array
    baselines: Mapping[str, Float64Array]
    level: float
    groups: Sequence[SeedGroup] = ()
    bounds: tuple[float, float] | None = None
    _differences: dict[int, list[DifferencePart | None]] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return "/".join(self.where)

    @property
    def num_common(self) -> int:
        """How many windows all runs are scored on."""
        return len(self.windows)

    @cached_property
    def common(self) -> list[float | None]:
        """The mean of each run over the common windows; None if there are none."""
        return [float(row.mean()) if len(row) else None for row in self.values]

    @cached_property
    def common_time_weighted(self) -> list[float | None]:
        """The same weighted by the length of the windows."""
        weights = (self.windows[:, 1] - self.windows[:, 0]).astype(np.float64)
        return [float(row @ weights / weights.sum()) if len(row) else None for row in self.values]

    @cached_property
    def intervals(self) -> list[IntervalPart | None]:
        """Block-bootstrap interval of each of :attr:`common`; None with too few windows."""
        return [interval_part(mean_interval(row, level=self.level, bounds=self.bounds)) for row in self.values]

    @cached_property
    def best(self) -> int | None:
        """The run with the best mean over the common windows, the first of equal ones."""
        if not self.num_common:
            return None
        means = self.values.mean(axis=1)
        return int(means.argmax() if self.greater_is_better else means.argmin())

    def differences(self, reference: int) -> list[DifferencePart | None]:
        """Each run less another one, window by window; None for that run itself, and without common windows.

        Args:
            reference: position of the other run.
        """
        if reference not in self._differences:
            self._differences[reference] = [
                self._difference(run, reference) if run != reference and self.num_common else None
                for run in range(len(self.values))
            ]
        return self._differences[reference]

    @cached_property
    def to_best(self) -> list[DifferencePart | None]:
        """:meth:`differences` to the best run."""
        return [None] * len(self.values) if self.best is None else self.differences(self.best)

    @cached_property
    def over_seeds(self) -> list[GroupScore]:
        """Means over seeds, for groups of runs that equal each other but for their seed."""
        if not self.num_common:
            return []
        means = self.values.mean(axis=1)
        found = []
        for group in self.groups:
            values = means[list(group.runs)]
            interval = interval_part(repetition_interval(values, level=self.level))
            found.append(GroupScore(group, tuple(values.tolist()), float(values.mean()), interval))
        return found

    def is_optimal(self, costs: Sequence[float]) -> list[bool]:
        """Which runs no other one beats: none is at least as cheap and at least as good, and better in one of both.

        Args:
            costs: of each run.
        """
        price = np.asarray(costs, dtype=np.float64)
        score = self.values.mean(axis=1) if self.num_common else np.zeros(len(price))
        score = score if self.greater_is_better else -score
        no_worse = (price[:, None] <= price) & (score[:, None] >= score)  # [i, j]: i is no worse than j
        better = (price[:, None] < price) | (score[:, None] > score)
        beats = no_worse & better
        return [not beats[:, run].any() for run in range(len(price))]

    def _difference(self, run: int, reference: int) -> DifferencePart:
        a, b = self.values[run], self.values[reference]
        interval = interval_part(paired_interval(a, b, level=self.level))
        return DifferencePart(mean=float((a - b).mean()), interval=interval, windows=self.num_common)
