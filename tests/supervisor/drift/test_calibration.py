"""False alarms of the drift tests at their stated rate, and what they find."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.triggers import calibration
from benchmarks.triggers.calibration import METRICS, Case

CHEAP = ("CrossMMD", "KolmogorovSmirnov", "CramerVonMises", "Hellinger", "MeanDistance", "ClassifierTwoSample")

NONE = np.zeros((0, len(METRICS), len(calibration.ALPHAS)))


@pytest.mark.parametrize("samples", [100, 200])
def test_independent_streams_are_flagged_at_the_stated_rate(samples: int) -> None:
    case = Case("i.i.d.", samples, 2, 150)
    found = calibration.p_values(case.draw, range(case.runs), CHEAP)
    for row in calibration.rows(case.name, found, NONE, CHEAP):
        assert calibration.holds(row), row


@pytest.mark.parametrize(
    ("stream", "samples"),
    [
        ("AR(1) .5", 200),
        pytest.param("AR(1) .9", 1000, marks=pytest.mark.slow),
        pytest.param("AR(1) .9 + season", 1000, marks=pytest.mark.slow),
    ],
)
def test_autocorrelated_streams_are_flagged_no_more_often(stream: str, samples: int) -> None:
    case, metrics = Case(stream, samples, 2, 60), ("CrossMMD", "MeanDistance")
    blocked = calibration.p_values(case.draw, range(case.runs), metrics)
    unblocked = calibration.p_values(case.draw, range(case.runs), metrics, block_length=1)
    for row in calibration.rows(case.name, blocked, unblocked, metrics):
        assert calibration.holds(row), row
        assert row.unblocked > row.flagged
        assert row.too_short < 1


def test_windows_too_short_for_their_autocorrelation_are_reported_as_such() -> None:
    for run in range(20):
        reference, current = Case("AR(1) .9", 100, 8, 1).draw(run)
        for name in METRICS:
            result = calibration.metric(name).test(
                reference, current, alpha=0.05, permutations=100, block_length=None, rng=np.random.default_rng(run)
            )
            assert not result.rejects
            assert result.p_value is None
            assert "too short for the autocorrelation they show" in result.note


FOUND = {
    ("MMD", "mean of all + .15"): 0.9,
    ("MMD", "scale × 1.15"): 0.7,
    ("MMD", "correlation only"): 0.7,
    ("MMD", "15 % mixture"): 0.8,
    ("CrossMMD", "mean of all + .15"): 0.8,
    ("KolmogorovSmirnov", "mean of one feature + .5"): 0.6,
    ("CramerVonMises", "mean of one feature + .5"): 0.7,
    ("Hellinger", "scale × 1.15"): 0.7,
    ("MeanDistance", "mean of all + .15"): 0.8,
    ("ClassifierTwoSample", "mean of one feature + .5"): 0.75,
    ("ClassifierTwoSample", "mean of all + .15"): 0.9,
    ("ComponentRatio", "scale × 1.15"): 0.7,
}
"""Smallest share of runs in which a metric finds a drift that it is good at."""


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_finds_what_it_is_good_at(metric: str) -> None:
    drifts = [drift for name, drift in FOUND if name == metric]
    for row in calibration.power(20, (metric,), drifts):
        if row.alpha == max(calibration.ALPHAS):
            assert row.flagged >= FOUND[metric, row.case], row


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", calibration.CASES, ids=lambda case: case.name)
def test_false_alarms_stay_at_the_stated_rate(case: Case) -> None:
    found = calibration.p_values(case.draw, range(case.runs))
    wrong = [row for row in calibration.rows(case.name, found, NONE) if not calibration.holds(row)]
    assert not wrong


@pytest.mark.slow
def test_power_on_known_drift() -> None:
    for row in calibration.power(200):
        expected = FOUND.get((row.metric, row.case))
        if expected is not None and row.alpha == max(calibration.ALPHAS):
            assert row.flagged >= expected, row
