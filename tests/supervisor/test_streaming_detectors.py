"""ADWIN, Page-Hinkley and DDM against river, against slow oracles, and cut mid-stream."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from river import drift

from modyn.core.plugins.performance import Errors, Measured
from modyn.supervisor.performance.criteria import ADWIN, DDM, PageHinkley
from modyn.supervisor.performance.detectors.streaming import StreamingDetector

DETECTORS: list[tuple[type[StreamingDetector], Any, dict[str, Any]]] = [
    (ADWIN, drift.ADWIN, {}),
    (ADWIN, drift.ADWIN, {"delta": 0.05, "clock": 7, "max_buckets": 3, "min_window_length": 2, "grace_period": 1}),
    (ADWIN, drift.ADWIN, {"delta": 0.3, "clock": 3, "max_buckets": 2, "min_window_length": 1, "grace_period": 20}),
    (PageHinkley, drift.PageHinkley, {"mode": "both"}),
    (PageHinkley, drift.PageHinkley, {"mode": "up", "threshold": 10.0, "min_instances": 5}),
    (PageHinkley, drift.PageHinkley, {"mode": "down", "threshold": 8.0, "delta": 0.0, "alpha": 0.999}),
    (DDM, drift.binary.DDM, {}),
    (DDM, drift.binary.DDM, {"warm_start": 100, "warning_threshold": 1.0, "drift_threshold": 2.0}),
]
SMALL = [ADWIN(delta=0.3, clock=3), PageHinkley(threshold=3.0, min_instances=4), DDM(warm_start=5, drift_threshold=1.5)]


def stream(seed: int, size: int = 20_000, every: int = 1_000) -> Errors:
    """Errors whose rate jumps now and then."""
    rng = np.random.default_rng(seed)
    rates = rng.choice([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.9], size=size // every)
    return rng.random(size) < np.repeat(rates, every)


def positions(detector: StreamingDetector, errors: Errors) -> list[int]:
    return list(detector.feed(detector.initial_state(), errors).positions)


def cut(detector: StreamingDetector, errors: Errors, edges: list[int]) -> tuple[list[int], Any]:
    """Positions and the last state, feeding pieces with the state through JSON between them."""
    state, found = detector.initial_state(), []
    for start, end in itertools.pairwise([0, *sorted(edges), len(errors)]):
        said = detector.feed(state, errors[start:end])
        found += [start + position for position in said.positions]
        state = detector.state_type.model_validate_json(said.state.model_dump_json())
    return found, state


@pytest.mark.parametrize(("ours", "theirs", "parameters"), DETECTORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_detections_equal_rivers(ours: Any, theirs: Any, parameters: dict[str, Any], seed: int) -> None:
    errors, reference = stream(seed), theirs(**parameters)
    expected = []
    for position, error in enumerate(errors.tolist()):
        reference.update(int(error))
        if reference.drift_detected:
            expected.append(position)
    detector = ours(**{"mode": "both", **parameters} if ours is ADWIN else parameters)
    assert positions(detector, errors) == expected
    assert len(expected) >= 5


def test_default_parameters_are_rivers_but_for_the_direction() -> None:
    for ours, theirs in ((ADWIN, drift.ADWIN), (PageHinkley, drift.PageHinkley), (DDM, drift.binary.DDM)):
        reference = theirs()
        for name, value in ours().model_dump().items():
            if name != "mode":
                assert value == getattr(reference, name), (ours.__name__, name)


@pytest.mark.parametrize("detector", SMALL, ids=lambda detector: detector.plugin_name)
@settings(max_examples=40)
@given(errors=st.lists(st.booleans(), max_size=200), edges=st.lists(st.integers(0, 200), max_size=6))
def test_a_stream_may_be_cut_anywhere(detector: StreamingDetector, errors: list[bool], edges: list[int]) -> None:
    column = np.array(errors, dtype=np.bool_)
    whole = detector.feed(detector.initial_state(), column)
    found, state = cut(detector, column, [min(edge, len(errors)) for edge in edges])
    assert found == list(whole.positions)
    assert state == whole.state


def adwin_oracle(errors: list[int], delta: float, clock: int, least: int) -> list[int]:
    """Every cut of the plain window, as the definition says."""
    window: list[int] = []
    found = []
    for position, error in enumerate(errors):
        window.append(error)
        size = len(window)
        if size % clock or size <= 10:
            continue
        variance = float(np.var(window))
        depth = math.log(2 * math.log(size) / delta)
        for n0 in range(least, size - least + 1):
            spread = 1 / (n0 - least + 1) + 1 / (size - n0 - least + 1)
            bound = math.sqrt(2 * spread * variance * depth) + 2 / 3 * depth * spread
            if abs(np.mean(window[:n0]) - np.mean(window[n0:])) > bound:
                found.append(position)
                window = []
                break
    return found


@pytest.mark.parametrize("seed", range(4))
def test_adwin_with_a_bucket_per_error_looks_at_every_cut(seed: int) -> None:
    errors = stream(seed, size=900, every=150)
    detector = ADWIN(delta=0.1, clock=16, max_buckets=1_000, min_window_length=4, mode="both")
    assert positions(detector, errors) == adwin_oracle(errors.astype(int).tolist(), 0.1, 16, 4)


def test_page_hinkley_by_hand() -> None:
    detector = PageHinkley(min_instances=1, delta=0.0, threshold=0.9, alpha=1.0, mode="up")
    # x     mean   x - mean   sum U    min U    U - min U
    # 0     0      0          0        0        0
    # 1     1/2    1/2        1/2      0        1/2
    # 0     1/3    -1/3       1/6      0        1/6
    # 1     1/2    1/2        2/3      0        2/3
    # 1     3/5    2/5        16/15    0        16/15 > 0.9
    found = detector.feed(detector.initial_state(), np.array([0, 1, 0, 1, 1], dtype=np.bool_))
    assert found.positions == (4,)
    assert found.statistic == pytest.approx(16 / 15)
    assert found.threshold == 0.9


def test_ddm_by_hand() -> None:
    detector = DDM(warm_start=3, drift_threshold=3.0)
    # n = 4: p = 1/4, s = sqrt(3/16/4) = 0.2165; p + s = 0.4665, the smallest so far; bound 0.25 + 3 s = 0.8995
    # n = 5: p = 2/5, s = sqrt(6/25/5) = 0.2191; 0.6191
    # n = 6: p = 3/6, s = sqrt(1/4/6) = 0.2041; 0.7041;  n = 7: p = 4/7, s = 0.1870; 0.7585
    # n = 8: p = 5/8, s = 0.1712; 0.7962;  n = 9: p = 6/9, s = 0.1571; 0.8238
    # n = 10: 0.7 + 0.1449 = 0.8449;  n = 11: 8/11 + 0.1343 = 0.8616;  n = 12: 0.75 + 0.125 = 0.875
    # n = 13: 10/13 + 0.1169 = 0.8861;  n = 14: 11/14 + 0.1097 = 0.8954;  n = 15: 0.8 + 0.1033 = 0.9033 > 0.8995
    found = detector.feed(detector.initial_state(), np.array([0, 1, 0, 0] + [1] * 11, dtype=np.bool_))
    assert found.positions == (14,)
    assert found.statistic == pytest.approx(0.8 + math.sqrt(0.16 / 15))
    assert found.threshold == pytest.approx(0.25 + 3 * math.sqrt(3 / 64))


def test_a_model_that_gets_better_does_not_fire_by_default() -> None:
    better = np.concatenate((np.arange(3_000) % 2 == 0, np.arange(3_000) % 20 == 0))
    for kind in (ADWIN, PageHinkley):
        assert positions(kind(), better) == []
        assert len(positions(kind(mode="down"), better)) == 1
        assert positions(kind(mode="both"), better) == positions(kind(mode="down"), better)
        assert len(positions(kind(), ~better)) == 1


def test_a_judgement_says_where_and_how_much() -> None:
    errors = np.repeat([False, True], 200)
    said = ADWIN().judge(ADWIN().initial_state(), Measured({}, errors))
    assert said.decision
    assert said.statistic is not None
    assert said.threshold is not None
    assert said.statistic > said.threshold
    assert said.note == f"detected after {positions(ADWIN(), errors)[0] + 1} of 400 new labels"
    quiet = ADWIN().judge(ADWIN().initial_state(), Measured({}, errors[:200]))
    assert not quiet.decision
    assert quiet.statistic == 0.0
    assert quiet.note == ""


def test_a_judgement_without_labels_of_the_newest_model() -> None:
    for detector in SMALL:
        said = detector.judge(detector.initial_state(), Measured({}, np.empty(0, dtype=np.bool_)))
        assert (said.state, said.decision, said.statistic) == (detector.initial_state(), False, None)
        assert "no label" in said.note


def test_ddm_warns() -> None:
    errors = np.concatenate((np.arange(400) % 10 == 0, np.ones(12, dtype=np.bool_)))
    said = DDM().judge(DDM().initial_state(), Measured({}, errors))
    assert (said.decision, said.note) == (False, "warning level")


def test_every_detector_starts_afresh_after_a_training() -> None:
    for detector in SMALL:
        state = detector.feed(detector.initial_state(), stream(3)[:100]).state
        assert state != detector.initial_state()
        assert detector.trained(state) == detector.initial_state()


def test_adwin_remembers_the_logarithm_of_its_window() -> None:
    errors = np.random.default_rng(0).random(100_000) < 0.1
    state = ADWIN().feed(ADWIN().initial_state(), errors).state
    assert sum(len(row) << i for i, row in enumerate(state.rows)) == 100_000
    assert sum(map(sum, state.rows)) == errors.sum()
    assert len(state.model_dump_json()) < 1_000


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        *((ADWIN, {key: value}) for key, value in (("delta", 0), ("delta", 1), ("clock", 0), ("max_buckets", 1))),
        *((PageHinkley, {key: value}) for key, value in (("threshold", 0), ("alpha", 1.1), ("mode", "sideways"))),
        *((DDM, {key: value}) for key, value in (("warm_start", 0), ("drift_threshold", -1))),
    ],
)
def test_parameters_out_of_range(kind: type[StreamingDetector], parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(parameters))):
        kind.model_validate(parameters)
