"""Forecasts of short series against independent solutions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.supervisor.performance.forecasting import appended, forecast, ridge

values = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=30)


def ridge_oracle(x: list[float], y: list[float], penalty: float, at: float) -> float:
    """Least squares with one more row that pulls the slope to zero."""
    rows = [[1.0, value] for value in x] + [[0.0, penalty**0.5]]
    height, slope = np.linalg.lstsq(np.array(rows), np.array([*y, 0.0]), rcond=None)[0]
    return float(height + slope * at)


@given(y=values, penalty=st.floats(0.01, 10))
def test_ridge_is_penalised_least_squares(y: list[float], penalty: float) -> None:
    x = [float(i) for i in range(len(y))]
    found = ridge(np.array(x), np.array(y), penalty, at=len(y))
    assert found == pytest.approx(ridge_oracle(x, y, penalty, len(y)), rel=1e-6, abs=1e-6)


def test_ridge_by_hand() -> None:
    # x = 0 1 2 3 4, y = 5 4 3 2 1: Σ(x - 2)(y - 3) = -10, Σ(x - 2)² + 0.5 = 10.5; 3 - 10/10.5 · (5 - 2) = 1/7
    assert forecast((5.0, 4.0, 3.0, 2.0, 1.0), "ridge_regression") == pytest.approx(1 / 7)


def test_one_point_and_no_penalty() -> None:
    assert ridge(np.array([3.0]), np.array([7.0]), 0.0, at=100.0) == 7.0


@pytest.mark.parametrize("method", ["rolling_average", "ridge_regression", "holt"])
def test_with_few_values_every_method_is_the_mean(method: str) -> None:
    assert forecast((1.0, 2.0, 6.0, 7.0), method) == 4.0  # type: ignore[arg-type]


@given(y=values)
def test_the_rolling_average_is_the_mean(y: list[float]) -> None:
    assert forecast(tuple(y), "rolling_average") == pytest.approx(sum(y) / len(y))


def test_holt_by_hand() -> None:
    # level 1, trend 2 - 1 = 1
    # 2: level (2 + (1 + 1)) / 2 = 2, trend 0.1 · 1 + 0.9 · 1 = 1
    # 3, 4: level 3, then 4; trend 1
    # 9: level (9 + 5) / 2 = 7, trend 0.1 · 3 + 0.9 · 1 = 1.2; forecast 8.2
    assert forecast((1.0, 2.0, 3.0, 4.0, 9.0), "holt") == pytest.approx(8.2)


@pytest.mark.parametrize("method", ["ridge_regression", "holt"])
@given(level=st.floats(-5, 5), length=st.integers(5, 20))
def test_a_constant_stays(method: str, level: float, length: int) -> None:
    assert forecast((level,) * length, method) == pytest.approx(level)  # type: ignore[arg-type]


def test_windows_keep_the_last_values() -> None:
    assert appended((), 1.0, 3) == (1.0,)
    assert appended((1.0, 2.0, 3.0), 4.0, 3) == (2.0, 3.0, 4.0)
