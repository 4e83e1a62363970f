"""DDM: an error rate significantly above its lowest."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from modyn.core.plugins.performance import PERFORMANCE_CRITERIA, Errors, Judgement, Measured
from modyn.supervisor.performance.detectors.streaming import Detections, DetectorState, StreamingDetector


class DDMState(DetectorState):
    """How many errors were read, their mean, and the mean and deviation where their sum was smallest (None before)."""

    count: NonNegativeInt = 0
    mean: float = 0.0
    lowest: float | None = None
    lowest_deviation: float = 0.0


@PERFORMANCE_CRITERIA.register("DDM")
class DDM(StreamingDetector):
    """Detects a change when the error rate since the last change is far above the lowest it was.

    With p the error rate after n predictions and s = sqrt(p (1 - p) / n), there is a change if
    p + s > p_min + ``drift_threshold`` · s_min, where p_min and s_min are those at which p + s was smallest. Gama,
    Medas, Castillo and Rodrigues, "Learning with drift detection", SBIA 2004, with the parameters, defaults and
    detections of the river library. On long quiet streams it raises several false alarms in 10,000 predictions.

    >>> import numpy as np
    >>> errors = np.arange(3000) % 10 < np.where(np.arange(3000) < 2000, 1, 3)  # error rate 0.1, then 0.3
    >>> detector = DDM()
    >>> detector.feed(detector.initial_state(), errors).positions[-1] - 2000
    132
    """

    state_type = DDMState

    warm_start: PositiveInt = Field(30, description="Predictions before the first check.")
    warning_threshold: PositiveFloat = Field(
        2.0, description="Deviations above the lowest error rate at which the explanation warns."
    )
    drift_threshold: PositiveFloat = Field(3.0, description="Deviations above the lowest error rate that are a change.")

    def feed(self, state: Any, errors: Errors) -> Detections:
        count, mean, low_deviation = state.count, state.mean, state.lowest_deviation
        lowest = float("inf") if state.lowest is None else state.lowest
        positions: list[int] = []
        statistic: float | None = None
        threshold: float | None = None
        for position, error in enumerate(errors.tolist()):
            count += 1
            mean += 1 / count * (error - mean)
            if count <= self.warm_start:
                continue
            deviation = math.sqrt(max(0.0, mean * (1 - mean)) / count)
            if mean + deviation <= lowest + low_deviation:
                lowest, low_deviation = mean, deviation
            bound = lowest + self.drift_threshold * low_deviation
            changed = mean + deviation > bound
            if not positions or changed:
                statistic, threshold = mean + deviation, bound
            if changed:
                positions.append(position)
                count, mean, lowest, low_deviation = 0, 0.0, float("inf"), 0.0
        after = DDMState(
            count=count,
            mean=mean,
            lowest=lowest if math.isfinite(lowest) else None,
            lowest_deviation=low_deviation,
        )
        return Detections(after, tuple(positions), statistic, threshold)

    def judge(self, state: Any, measured: Measured) -> Judgement:
        said = super().judge(state, measured)
        seen = said.state
        if said.decision or said.statistic is None or seen.lowest is None:
            return said
        warns = said.statistic > seen.lowest + self.warning_threshold * seen.lowest_deviation
        return said._replace(note="warning level") if warns else said
