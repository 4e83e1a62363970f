"""Drift triggers on streams whose changes are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.triggers.known_drift import (
    DATA,
    Watched,
    covariate_stream,
    drift_trigger,
    found,
    gaussians_rows,
    parquet_columns,
    rotated_digits,
    watch,
)

ALPHA = 0.002
"""Of a test, so that none of some tens of quiet evaluations is likely to be flagged."""

needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"there are no data in {DATA}")


def check_found(watched: Watched, change: int, within: int) -> None:
    """It fires soon after the change, and not before."""
    result = found(watched, [change])
    assert result.false_alarms == ()
    assert len(result.delays) == 1
    assert result.delays[0] <= within


SEEN_BY_ALL = [(metric, kind) for metric in ("MMD", "CrossMMD") for kind in ("mean", "scale", "correlation", "mixture")]
SEEN_BY_SOME = [
    ("KolmogorovSmirnov", "mean"),
    ("KolmogorovSmirnov", "mixture"),
    ("CramerVonMises", "mean"),
    ("Hellinger", "scale"),
    ("ClassifierTwoSample", "mean"),
    ("MeanDistance", "mean"),
]


@pytest.mark.parametrize(("metric", "kind"), SEEN_BY_ALL + SEEN_BY_SOME)
def test_a_change_of_the_inputs_is_found_within_three_intervals(metric: str, kind: str) -> None:
    watched = watch(drift_trigger(metric, alpha=ALPHA), covariate_stream(kind, 4_500, 2_700))
    check_found(watched, 2_700, within=1_500)


def test_a_quiet_stream_fires_at_the_stated_rate() -> None:
    """150 evaluations at a rate of .05, with reference windows of their own: 7.5, deviation 2.7."""
    trigger = drift_trigger("MeanDistance", alpha=0.05, interval=100, reference=100, current=100)
    alarms = sum(
        evaluation.decision
        for seed in range(15)
        for evaluation in watch(trigger, covariate_stream("none", 1_100, 0, seed=seed), seed=seed).evaluations[1:]
    )
    assert alarms <= 17


@needs_data
@pytest.mark.parametrize("metric", ["MMD", "KolmogorovSmirnov", "ClassifierTwoSample"])
def test_rotated_digits_are_found(metric: str) -> None:
    watched = watch(drift_trigger(metric, alpha=ALPHA), rotated_digits(2_700, degrees=30))
    check_found(watched, 2_700, within=1_500)


@needs_data
def test_a_change_of_the_concept_alone_is_none_of_the_inputs() -> None:
    """The labels of SEA change their meaning three times; its inputs do not."""
    metrics = ("MMD", "CrossMMD", "KolmogorovSmirnov", "ClassifierTwoSample", "MeanDistance")
    trigger = drift_trigger(*metrics, alpha=ALPHA, interval=4_000, reference=500, current=500)
    watched = watch(trigger, parquet_columns("sea.parquet"))
    assert len(watched.evaluations) == 12
    assert [finding for look in watched.evaluations for finding in look.findings if finding.decision] == []
    assert sum(finding.p_value is None for look in watched.evaluations[1:] for finding in look.findings) <= 3


@needs_data
@pytest.mark.slow
def test_gaussians_that_change_places_are_found_by_their_labels_only() -> None:
    rows = gaussians_rows("CrossMMD")
    without = [row for row in rows if "labels" not in row.stream]
    assert sum(row.share * row.num_changes for row in without) <= 2
    shares = np.array([row.share for row in rows if "labels" in row.stream])
    assert shares[0] < 1  # one or a few of the fifteen change places
    assert shares[1:].min() >= 0.9
    assert sum(row.false_alarms for row in rows) <= 10  # 400 evaluations at a rate of .01
