"""ADWIN: a window of errors that is cut where its two sides differ."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from modyn.core.plugins.performance import PERFORMANCE_CRITERIA, Errors
from modyn.supervisor.performance.detectors.streaming import Detections, DetectorState, Mode, StreamingDetector


class AdwinState(DetectorState):
    """``rows``: the window as buckets; one of row i is the number of errors among 2^i predictions, oldest first."""

    rows: tuple[tuple[NonNegativeInt, ...], ...] = ()


class Cut(NamedTuple):
    """Where the window's two sides differ most, against what chance explains: the recent error rate minus the one
    before, and how large that may be."""

    difference: float
    bound: float


@PERFORMANCE_CRITERIA.register("ADWIN")
class ADWIN(StreamingDetector):
    """Detects a change where two parts of the window of errors since the last change have different means.

    With the window W cut into an older part of n0 and a recent part of n1 predictions, with error rates p0 and p1,
    there is a change if |p0 - p1| > sqrt(2 m v d) + 2/3 d m for any cut between buckets, where
    d = ln(2 ln|W| / delta), v is the variance of W and m = 1/(n0 - l + 1) + 1/(n1 - l + 1), l = ``min_window_length``.
    Memory grows with the logarithm of the window. Bifet and Gavaldà, "Learning from time-changing data with adaptive
    windowing", SDM 2007, in the variant ADWIN2 of the river library, whose parameters, defaults and detections these
    are, with ``mode: both``.

    >>> errors = np.arange(3000) % 10 < np.where(np.arange(3000) < 2000, 1, 3)  # error rate 0.1, then 0.3
    >>> detector = ADWIN()
    >>> detector.feed(detector.initial_state(), errors).positions
    (2111,)
    """

    state_type = AdwinState

    delta: float = Field(0.002, gt=0, lt=1, description="Bound on the rate of false alarms; smaller is calmer.")
    clock: PositiveInt = Field(32, description="Predictions between two checks.")
    max_buckets: int = Field(5, ge=2, description="Buckets of one size; more make cuts finer.")
    min_window_length: PositiveInt = Field(5, description="Predictions that either side of a cut has to have.")
    grace_period: PositiveInt = Field(10, description="Predictions before the first check.")
    mode: Mode = Field(
        "up",
        description="Which changes of the error rate fire: `up`, `down` or `both`. Any change starts a new window. A "
        "model that gets better needs no training, so the default is `up`, where river has `both`.",
    )

    def feed(self, state: Any, errors: Errors) -> Detections:
        rows = [list(row) for row in state.rows]
        width = sum(len(row) << i for i, row in enumerate(rows))
        positions: list[int] = []
        shown: Cut | None = None
        for position, error in enumerate(errors.tolist()):
            self._insert(rows, int(error))
            width += 1
            if width % self.clock or width <= self.grace_period:
                continue
            cut = self._widest_cut(rows, width)
            if cut is None:
                continue
            changed = abs(cut.difference) > cut.bound
            fires = self._worsening(cut) > cut.bound
            if fires or not positions:
                shown = cut
            if fires:
                positions.append(position)
            if changed:
                rows, width = [], 0
        after = AdwinState(rows=tuple(map(tuple, rows)))
        if shown is None:
            return Detections(after, tuple(positions), None, None)
        return Detections(after, tuple(positions), self._worsening(shown), shown.bound)

    def _insert(self, rows: list[list[int]], error: int) -> None:
        """One more prediction; of too many buckets of a size the two oldest become one of the next size."""
        if not rows:
            rows.append([])
        rows[0].append(error)
        for i, row in enumerate(rows):
            if len(row) <= self.max_buckets:
                break
            merged = row[0] + row[1]
            del row[:2]
            if i + 1 == len(rows):
                rows.append([merged])
                break
            rows[i + 1].append(merged)

    def _widest_cut(self, rows: list[list[int]], width: int) -> Cut | None:
        """The cut whose difference exceeds its bound most; None if none has enough predictions on both sides.

        Zeros and ones need no sums of squares: the variance of n of them, u being one, is u/n (1 - u/n).
        """
        sizes = np.concatenate([np.full(len(row), 1 << i) for i, row in reversed(list(enumerate(rows)))])
        wrong = np.cumsum(np.concatenate(rows[::-1]))
        older = np.cumsum(sizes)
        recent = width - older
        eligible = (older >= self.min_window_length) & (recent >= self.min_window_length)
        if not eligible.any():
            return None
        total, wrong, older, recent = wrong[-1], wrong[eligible], older[eligible], recent[eligible]
        rate = total / width
        depth = math.log(2 * math.log(width) / self.delta)
        spread = 1 / (older - self.min_window_length + 1) + 1 / (recent - self.min_window_length + 1)
        bounds = np.sqrt(2 * spread * rate * (1 - rate) * depth) + 2 / 3 * depth * spread
        differences = (total - wrong) / recent - wrong / older
        best = int(np.argmax(np.abs(differences) / bounds))
        return Cut(float(differences[best]), float(bounds[best]))

    def _worsening(self, cut: Cut) -> float:
        """The difference in the direction that fires."""
        if self.mode == "both":
            return abs(cut.difference)
        return cut.difference if self.mode == "up" else -cut.difference
