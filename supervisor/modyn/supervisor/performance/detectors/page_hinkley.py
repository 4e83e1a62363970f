"""Page-Hinkley: the sum of how far errors lie above their mean."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from modyn.core.plugins.performance import PERFORMANCE_CRITERIA, Errors
from modyn.supervisor.performance.detectors.streaming import Detections, DetectorState, Mode, StreamingDetector


class PageHinkleyState(DetectorState):
    """How many errors were read and their mean; the two faded sums, the smallest of the first (None before any) and the
    largest of the second."""

    count: NonNegativeInt = 0
    mean: float = 0.0
    above: float = 0.0
    below: float = 0.0
    smallest: float | None = None
    largest: float = -1.0


@PERFORMANCE_CRITERIA.register("PageHinkley")
class PageHinkley(StreamingDetector):
    """Detects a change when errors have been more (or fewer) than their mean for long enough.

    With x the error (0 or 1) and x̄ the mean so far, U <- alpha · U + x - x̄ - delta and D <- alpha · D + x - x̄ + delta;
    the error rate went up if U - min U > ``threshold``, down if max D - D > ``threshold``. Page, "Continuous inspection
    schemes", Biometrika 41, 1954, with the fading of the river library, whose parameters, defaults and detections these
    are, with ``mode: both``. Slower than ADWIN, and cheaper.

    >>> import numpy as np
    >>> errors = np.arange(3000) % 10 < np.where(np.arange(3000) < 2000, 1, 5)  # error rate 0.1, then 0.5
    >>> detector = PageHinkley()
    >>> detector.feed(detector.initial_state(), errors).positions
    (2124,)
    """

    state_type = PageHinkleyState

    min_instances: PositiveInt = Field(30, description="Predictions before the first check.")
    delta: float = Field(0.005, ge=0, allow_inf_nan=False, description="Changes of the error rate to tolerate.")
    threshold: float = Field(50.0, gt=0, allow_inf_nan=False, description="Sum of deviations that is a change.")
    alpha: float = Field(1 - 1e-4, gt=0, le=1, description="Factor by which sums fade with every prediction.")
    mode: Mode = Field(
        "up",
        description="Which changes of the error rate fire: `up`, `down` or `both`. A model that gets better needs no "
        "training, so the default is `up`, where river has `both`.",
    )

    def feed(self, state: Any, errors: Errors) -> Detections:
        count, mean, above, below = state.count, state.mean, state.above, state.below
        smallest = float("inf") if state.smallest is None else state.smallest
        largest = state.largest
        alpha, delta = self.alpha, self.delta
        positions: list[int] = []
        statistic: float | None = None
        for position, error in enumerate(errors.tolist()):
            count += 1
            mean += 1 / count * (error - mean)
            deviation = error - mean
            above = alpha * above + deviation - delta
            below = alpha * below + deviation + delta
            smallest, largest = min(smallest, above), max(largest, below)
            if count < self.min_instances:
                continue
            measured = self._measured(above - smallest, largest - below)
            if not positions or measured > self.threshold:
                statistic = measured
            if measured > self.threshold:
                positions.append(position)
                count, mean, above, below, smallest, largest = 0, 0.0, 0.0, 0.0, float("inf"), -1.0
        after = PageHinkleyState(
            count=count,
            mean=mean,
            above=above,
            below=below,
            smallest=smallest if count else None,
            largest=largest,
        )
        return Detections(after, tuple(positions), statistic, self.threshold)

    def _measured(self, up: float, down: float) -> float:
        if self.mode == "both":
            return max(up, down)
        return up if self.mode == "up" else down
