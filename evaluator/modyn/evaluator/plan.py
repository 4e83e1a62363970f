"""Which model still has to see which samples."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.proto.evaluator_pb2 import PredictTask


@dataclass(frozen=True, eq=False)
class ModelTask:
    """One model and the samples it has to see.

    Attributes:
        model: content digest.
        runs: half-open runs of positions in the job's keys, int64 [k, 2], ascending and disjoint.
    """

    model: str
    runs: Int64Array

    def __len__(self) -> int:
        return int((self.runs[:, 1] - self.runs[:, 0]).sum())

    @cached_property
    def start(self) -> int:
        """Position of the first one it needs."""
        return int(self.runs[0, 0]) if len(self.runs) else 0

    @cached_property
    def end(self) -> int:
        """Position after the last one it needs."""
        return int(self.runs[-1, 1]) if len(self.runs) else 0

    @cached_property
    def _bounds(self) -> tuple[array[int], array[int]]:
        """Starts and ends of the runs, for look-ups one by one: each takes a tenth of what NumPy takes."""
        return array("q", self.runs[:, 0].tobytes()), array("q", self.runs[:, 1].tobytes())

    def needs(self, places: slice | Int64Array) -> bool:
        """Whether it needs any of some ascending positions, or of ``start … stop - 1``."""
        found = self.rows(places)
        return found.start < found.stop if isinstance(found, slice) else len(found) > 0

    def rows(self, places: slice | Int64Array) -> slice | Int64Array:
        """Which of some ascending positions it needs, as indices into them; a slice where they are one run."""
        return self.within(places.start, places.stop) if isinstance(places, slice) else self.among(places)

    def within(self, start: int, end: int) -> slice | Int64Array:
        """The positions it needs among ``start … end - 1``, relative to ``start``; a slice where they are one run."""
        starts, ends = self._bounds
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        if first >= last:
            return slice(0, 0)
        if last == first + 1:
            return slice(max(starts[first], start) - start, min(ends[first], end) - start)
        touched = np.clip(self.runs[first:last], start, end) - start
        return np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in touched])

    def among(self, positions: Int64Array) -> Int64Array:
        """Which of some ascending positions it needs, as indices into them, int64."""
        if not len(self.runs):
            return np.empty(0, dtype=np.int64)
        run = np.searchsorted(self.runs[:, 0], positions, side="right") - 1
        return np.flatnonzero((run >= 0) & (positions < self.runs[run, 1]))

    def to_proto(self) -> PredictTask:
        return PredictTask(model=self.model, run_starts=self.runs[:, 0].tolist(), run_ends=self.runs[:, 1].tolist())

    @staticmethod
    def from_proto(message: PredictTask) -> ModelTask:
        return ModelTask(message.model, np.array([message.run_starts, message.run_ends], dtype=np.int64).T)


def runs_of_mask(mask: npt.NDArray[np.bool_]) -> Int64Array:
    """The maximal runs of True as [start, end) positions, int64 [k, 2].

    >>> runs_of_mask(np.array([True, True, False, True])).tolist()
    [[0, 2], [3, 4]]
    """
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1).astype(np.int64)


def plan_tasks(keys: Int64Array, missing: Sequence[tuple[str, Int64Array]]) -> tuple[Int64Array, list[ModelTask]]:
    """The union of what models still need, each key once, and each model's share of it.

    Args:
        keys: of all samples, int64 [n].
        missing: model digest and maximal runs of positions in ``keys``; models without runs are left out.

    Returns:
        The keys to read, in their order in ``keys``, and the tasks.
    """
    edges = np.zeros(len(keys) + 1, dtype=np.int64)
    for _, runs in missing:
        edges[runs[:, 0]] += 1  # runs are maximal, so no two of a model share a start or an end
        edges[runs[:, 1]] -= 1
    needed = np.cumsum(edges[:-1]) > 0
    position = np.cumsum(needed) - 1  # in the union; right wherever `needed`
    tasks = []
    for model, runs in missing:
        if len(runs):
            starts = position[runs[:, 0]]
            tasks.append(ModelTask(model, np.stack([starts, starts + runs[:, 1] - runs[:, 0]], axis=1)))
    return keys[needed], tasks
