"""Forecasts of short series: the next accuracy, how dense the data is, what a training will cost."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

ForecastingMethod = Literal["rolling_average", "ridge_regression", "holt"]

MIN_OBSERVATIONS = 5
"""With fewer, every method is the mean: a slope of so few points is noise."""

SERIES_PENALTY = 0.5
"""Ridge penalty of a series of scores or densities."""

COST_PENALTY = 1.0
"""Ridge penalty of training seconds against numbers of samples."""

HOLT_LEVEL = 0.5
HOLT_TREND = 0.1


def forecast(series: tuple[float, ...], method: ForecastingMethod) -> float:
    """The value after the last one.

    ``rolling_average`` is the mean, ``ridge_regression`` a line through (0, v_0), (1, v_1), … with penalty 0.5 on its
    slope, ``holt`` exponential smoothing with a trend (Holt, "Forecasting seasonals and trends by exponentially
    weighted moving averages", 1957; reprinted in Int. J. Forecasting 20, 2004). With fewer than 5 values all are the
    mean.

    Args:
        series: oldest first, at least one.

    >>> forecast((0.9, 0.7), "ridge_regression")
    0.8
    >>> forecast((1.0, 2.0, 3.0, 4.0, 5.0), "holt")
    6.0
    """
    if method == "rolling_average" or len(series) < MIN_OBSERVATIONS:
        return float(np.mean(series))
    values = np.asarray(series, dtype=np.float64)
    if method == "holt":
        return _holt(values)
    return ridge(np.arange(len(values), dtype=np.float64), values, SERIES_PENALTY, at=float(len(values)))


def ridge(x: Numbers, y: Numbers, penalty: float, *, at: float) -> float:
    """A line through points, fitted with a penalty on the square of its slope but not on its height.

    slope = Σ (x - x̄)(y - ȳ) / (Σ (x - x̄)² + penalty); value = ȳ + slope · (at - x̄). (Hoerl and Kennard, "Ridge
    regression: biased estimation for nonorthogonal problems", Technometrics 12, 1970.)

    Args:
        x, y: float64 [n], n >= 1.
        penalty: >= 0.
        at: where the line is read.

    >>> ridge(np.array([0.0, 2.0]), np.array([1.0, 5.0]), 2.0, at=4.0)
    6.0
    """
    deviation = x - x.mean()
    spread = float(deviation @ deviation) + penalty
    slope = float(deviation @ (y - y.mean())) / spread if spread > 0 else 0.0
    return float(y.mean()) + slope * (at - float(x.mean()))


def _holt(values: Numbers) -> float:
    level, trend = float(values[0]), float(values[1] - values[0])
    for value in values[1:].tolist():
        before = level
        level = HOLT_LEVEL * value + (1 - HOLT_LEVEL) * (level + trend)
        trend = HOLT_TREND * (level - before) + (1 - HOLT_TREND) * trend
    return level + trend


def appended(series: tuple[float, ...], value: float, window_size: int) -> tuple[float, ...]:
    """The last ``window_size`` values of a series and one more.

    >>> appended((1.0, 2.0), 3.0, 2)
    (2.0, 3.0)
    """
    return (*series, value)[-window_size:]
