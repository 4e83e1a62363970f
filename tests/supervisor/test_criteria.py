"""What turns measurements into decisions, and decisions into votes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.plugins.drift import AGGREGATION_STRATEGIES, DECISION_CRITERIA, Decision, DecisionCriterion
from modyn.supervisor.drift.criteria import (
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    HypothesisTestCriterion,
    ThresholdDecisionCriterion,
)

EXAMPLES: dict[str, dict[str, Any]] = {
    "ThresholdDecisionCriterion": {"threshold": 0.5},
    "DynamicQuantileThresholdCriterion": {"window_size": 3, "quantile": 0.25},
    "DynamicRollingAverageThresholdCriterion": {"window_size": 3, "deviation": 0.1},
    "HypothesisTestCriterion": {"alpha": 0.01, "permutations": 199, "block_length": 5},
}
VOTES: dict[str, dict[str, Any]] = {"MajorityVote": {}, "AtLeastN": {"n": 2}, "Any": {}}

measurements = st.lists(st.floats(-5, 5), max_size=20).map(tuple)


def decisions(criterion: DecisionCriterion, stream: list[float], *, higher_is_worse: bool = True) -> list[bool]:
    """Of one measurement after the other, each remembered."""
    return [
        criterion.decide(
            measured, tuple(stream[max(0, i - criterion.memory) : i]), higher_is_worse=higher_is_worse
        ).decision
        for i, measured in enumerate(stream)
    ]


@pytest.mark.parametrize("name", DECISION_CRITERIA.names())
def test_a_criterion_survives_dump_and_parse(name: str) -> None:
    criterion = DECISION_CRITERIA.parse({"id": name, **EXAMPLES[name]})
    assert DECISION_CRITERIA.parse(DECISION_CRITERIA.dump(criterion)) == criterion
    assert criterion.needs_calibration == name.startswith("Dynamic")
    assert criterion.memory == (3 if criterion.needs_calibration else 0)


def test_published_names_are_accepted() -> None:
    parsed = DECISION_CRITERIA.parse({"id": "DynamicPercentileThresholdCriterion"})
    assert parsed == DynamicQuantileThresholdCriterion(window_size=10, quantile=0.05)


@pytest.mark.parametrize("measured", [0.4, 0.5, 0.6])
def test_a_fixed_threshold_is_reached_from_its_worse_side(measured: float) -> None:
    criterion = ThresholdDecisionCriterion(threshold=0.5)
    assert criterion.decide(measured, (), higher_is_worse=True) == Decision(measured >= 0.5, 0.5)
    assert criterion.decide(measured, (), higher_is_worse=False) == Decision(measured <= 0.5, 0.5)


def test_a_quantile_of_the_last_measurements() -> None:
    """Of three values a < b < c the quantile at .75 is b + (c - b) / 2, that at .25 is a + (b - a) / 2."""
    criterion = DynamicQuantileThresholdCriterion(window_size=3, quantile=0.25)
    assert criterion.decide(2.5, (1.0, 2.0, 3.0), higher_is_worse=True) == Decision(decision=False, threshold=2.5)
    assert criterion.decide(2.6, (3.0, 1.0, 2.0), higher_is_worse=True) == Decision(decision=True, threshold=2.5)
    assert criterion.decide(1.5, (1.0, 2.0, 3.0), higher_is_worse=False) == Decision(decision=False, threshold=1.5)
    assert criterion.decide(1.4, (1.0, 2.0, 3.0), higher_is_worse=False) == Decision(decision=True, threshold=1.5)
    # nothing earlier; 1 > 2 no; .75 of (2, 1) is 1.75; of (2, 1, 1.8) 1.9; of (1, 1.8, 5) 3.4; of (1.8, 5, 3.4) 4.2
    assert decisions(criterion, [2, 1, 1.8, 5, 3.4, 4.3]) == [False, False, True, True, False, True]


def test_a_rolling_average_of_the_last_measurements() -> None:
    relative = DynamicRollingAverageThresholdCriterion(window_size=2, deviation=0.5)
    # nothing earlier; 2 + 1 = 3; mean (2, 3) = 2.5, + 1.25 = 3.75; mean (3, 3.7) = 3.35; + 1.675 = 5.025
    assert decisions(relative, [2, 3, 3.7, 5.1]) == [False, True, False, True]
    absolute = DynamicRollingAverageThresholdCriterion(window_size=2, deviation=0.5, absolute=True)
    # nothing earlier; 2 + .5; mean (2, 2.4) = 2.2, + .5 = 2.7; mean (2.4, 2.7) = 2.55, + .5 = 3.05
    assert decisions(absolute, [2, 2.4, 2.75, 3.0]) == [False, False, True, False]
    assert decisions(absolute, [2, 1.6, 1.25, 1.0], higher_is_worse=False) == [False, False, True, False]


def test_an_average_below_zero_does_not_turn_the_margin_around() -> None:
    criterion = DynamicRollingAverageThresholdCriterion(window_size=2, deviation=0.5)
    said = criterion.decide(-0.011, (-0.01, -0.01), higher_is_worse=True)
    assert said.threshold == pytest.approx(-0.005)
    assert not said.decision
    assert criterion.decide(-0.004, (-0.01, -0.01), higher_is_worse=True).decision
    assert not criterion.decide(0.0, (0.0,), higher_is_worse=True).decision


@settings(deadline=None)
@given(measured=st.floats(-5, 5), earlier=measurements, quantile=st.floats(0, 1), size=st.integers(1, 12))
def test_a_quantile_equals_the_definition(
    measured: float, earlier: tuple[float, ...], quantile: float, size: int
) -> None:
    criterion = DynamicQuantileThresholdCriterion(window_size=size, quantile=quantile)
    for higher in (True, False):
        said = criterion.decide(measured, earlier, higher_is_worse=higher)
        if not earlier:
            assert said == Decision(decision=False, threshold=None, note="no earlier measurement to compare with")
            continue
        last = sorted(earlier[-size:])
        place = (1 - quantile if higher else quantile) * (len(last) - 1)
        below = int(place)
        above = min(below + 1, len(last) - 1)
        expected = last[below] + (place - below) * (last[above] - last[below])
        assert said.threshold == pytest.approx(expected, abs=1e-9)
        if abs(measured - expected) > 1e-9:
            assert said.decision == (measured > expected if higher else measured < expected)


@settings(deadline=None)
@given(
    measured=st.floats(-5, 5),
    earlier=measurements,
    deviation=st.floats(0, 2),
    absolute=st.booleans(),
    size=st.integers(1, 12),
)
def test_a_rolling_average_equals_the_definition(
    measured: float, earlier: tuple[float, ...], deviation: float, absolute: bool, size: int
) -> None:
    criterion = DynamicRollingAverageThresholdCriterion(window_size=size, deviation=deviation, absolute=absolute)
    for higher in (True, False):
        said = criterion.decide(measured, earlier, higher_is_worse=higher)
        if not earlier:
            assert said == Decision(decision=False, threshold=None, note="no earlier measurement to compare with")
            continue
        average = sum(earlier[-size:]) / len(earlier[-size:])
        worse_by = measured - average if higher else average - measured
        margin = deviation if absolute else deviation * abs(average)
        assert said.threshold == pytest.approx(average + margin if higher else average - margin, abs=1e-9)
        if abs(worse_by - margin) > 1e-9 and abs(worse_by) > 1e-9:
            assert said.decision == (worse_by >= margin and worse_by > 0)


def test_a_hypothesis_test_decides_nothing_about_a_number() -> None:
    said = HypothesisTestCriterion().decide(1e9, (0.0,), higher_is_worse=True)
    assert (said.decision, said.threshold) == (False, None)


def test_as_many_permutations_as_alpha_needs() -> None:
    assert HypothesisTestCriterion(alpha=0.05, permutations=19).permutations == 19
    assert HypothesisTestCriterion(alpha=0.01, permutations=100).alpha == 0.01
    with pytest.raises(ValidationError, match=r"98 permutations: .* expected at least 99 permutations"):
        HypothesisTestCriterion(alpha=0.01, permutations=98)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("ThresholdDecisionCriterion", {}),
        ("ThresholdDecisionCriterion", {"threshold": float("nan")}),
        ("DynamicQuantileThresholdCriterion", {"quantile": 1.1}),
        ("DynamicQuantileThresholdCriterion", {"window_size": 0}),
        ("DynamicRollingAverageThresholdCriterion", {"deviation": -0.1}),
        ("HypothesisTestCriterion", {"alpha": 0}),
        ("HypothesisTestCriterion", {"alpha": 1}),
        ("HypothesisTestCriterion", {"block_length": 0}),
    ],
)
def test_wrong_keys_are_refused(name: str, keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DECISION_CRITERIA.parse({"id": name, **keys})


@pytest.mark.parametrize("name", AGGREGATION_STRATEGIES.names())
@settings(deadline=None)
@given(votes=st.lists(st.booleans(), min_size=1, max_size=7))
def test_votes_are_counted(name: str, votes: list[bool]) -> None:
    strategy = AGGREGATION_STRATEGIES.parse({"id": name, **VOTES[name]})
    assert AGGREGATION_STRATEGIES.parse(AGGREGATION_STRATEGIES.dump(strategy)) == strategy
    yes = np.count_nonzero(votes)
    expected = {"MajorityVote": yes > len(votes) / 2, "AtLeastN": yes >= 2, "Any": yes >= 1}
    assert strategy.decide(votes) == expected[name]


def test_no_more_votes_than_there_are_voters() -> None:
    strategy = AGGREGATION_STRATEGIES.parse({"id": "AtLeastN", "n": 3})
    strategy.check(3)
    with pytest.raises(ValueError, match="n is 3, but there are only 2 metrics; expected at most 2"):
        strategy.check(2)
