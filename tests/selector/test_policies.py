"""One contract for every selection policy and presampling strategy, and an oracle for each policy's own rules."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.selection import (
    PRESAMPLING_STRATEGIES,
    SELECTION_POLICIES,
    SelectionInput,
    SelectionPolicy,
    TriggerData,
)
from tests.helpers.policies import CONFIGURATIONS, CORESET, draws_again, ids


class Columns:
    """Labels and timestamps that are functions of the key."""

    def __init__(self, num_labels: int = 3) -> None:
        self._num_labels = num_labels

    def labels(self, keys: KeySet) -> pa.Array:
        return pa.array(keys.to_array() % self._num_labels)

    def timestamps(self, keys: KeySet) -> Int64Array:
        return keys.to_array() * 10

    def values(self, keys: KeySet, column: str) -> npt.NDArray[np.float64]:
        return (keys.to_array() % 7 + 0.5).astype(np.float64)


def run(policy: SelectionPolicy, history: list[KeySet], seed: int = 0) -> list[list[int]]:
    """The training sets of successive triggers."""
    entries = [TriggerData(i, keys) for i, keys in enumerate(history)]
    selected: list[KeySet] = []
    for index in range(len(history)):
        data = SelectionInput(entries[: index + 1], Columns(), seed, tuple(selected))
        selection = policy.select(data)
        if selection.weights is not None:
            assert selection.weights.dtype == np.float32
            assert len(selection.weights) == len(selection.keys)
            assert np.isfinite(selection.weights).all()
            assert (selection.weights >= 0).all()
        selected.append(selection.keys)
    return [[int(key) for key in keys.to_array()] for keys in selected]


def select(policy: SelectionPolicy, history: list[KeySet], seed: int = 0) -> list[int]:
    """The training set of the last trigger."""
    return run(policy, history, seed)[-1]


@st.composite
def histories(draw: st.DrawFn) -> list[KeySet]:
    """New data of some triggers: disjoint, each in the order of keys or in any other."""
    sizes = draw(st.lists(st.integers(0, 25), min_size=1, max_size=5))
    total = sum(sizes)
    keys = np.arange(total) if draw(st.booleans()) else np.array(draw(st.permutations(range(total))), dtype=np.int64)
    return [KeySet.from_array(part) for part in np.split(keys, np.cumsum(sizes)[:-1])]


def test_every_registered_plugin_is_tested_here() -> None:
    assert {configuration["name"] for configuration in CONFIGURATIONS} == set(SELECTION_POLICIES.names())
    tested = {configuration["presampling_config"]["strategy"] for configuration in CORESET}
    assert tested == set(PRESAMPLING_STRATEGIES.names())


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=ids)
class TestContract:
    @given(history=histories(), seed=st.integers(0, 2**63 - 1))
    @settings(max_examples=5, deadline=None)
    def test_what_was_offered_in_the_order_seen_and_as_much_as_stated(
        self, configuration: dict[str, Any], history: list[KeySet], seed: int
    ) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        chosen = run(policy, history, seed)
        assert run(policy, history, seed) == chosen
        seen: list[int] = []
        for index, keys in enumerate(history):
            seen.extend(int(key) for key in keys.to_array())
            positions = [seen.index(key) for key in chosen[index]]
            assert positions == sorted(positions)
            if not draws_again(configuration, index):
                assert len(set(positions)) == len(positions)
            assert len(positions) == expected_size(configuration, history[: index + 1], chosen[:index])

    def test_no_data_is_an_empty_set(self, configuration: dict[str, Any]) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        assert select(policy, [KeySet(ranges=())]) == []
        assert select(policy, [KeySet(ranges=()), KeySet(ranges=())]) == []

    def test_how_keys_are_written_does_not_matter(self, configuration: dict[str, Any]) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        ranges = [KeySet(ranges=(KeyRange(0, 60),)), KeySet(ranges=(KeyRange(60, 90), KeyRange(100, 150)))]
        arrays = [KeySet(array=keys.to_array()) for keys in ranges]
        assert select(policy, ranges) == select(policy, arrays)

    def test_it_survives_its_yaml(self, configuration: dict[str, Any]) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        assert SELECTION_POLICIES.parse(SELECTION_POLICIES.dump(policy)) == policy

    def test_other_seeds_and_triggers_draw_other_samples(self, configuration: dict[str, Any]) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        data = [KeySet(ranges=(KeyRange(0, 5000),))]
        size = len(select(policy, data))
        oldest_or_newest = configuration.get("limit_reset") == "lastX" and configuration["tail_triggers"] is None
        if (size == 5000 and not draws_again(configuration, 0)) or oldest_or_newest or "window" in configuration:
            return
        assert select(policy, data, seed=1) != select(policy, data, seed=2)
        empty = KeySet(ranges=())
        assert select(policy, [empty] * 3 + data) != select(policy, [empty] * 4 + data)


def expected_size(configuration: dict[str, Any], history: list[KeySet], selected: list[list[int]]) -> int:
    """The stated size, by arithmetic on the candidates of the last trigger of a history."""
    sizes = [len(keys) for keys in history]
    tail = configuration.get("tail_triggers", {"WeightedStrategy": 0}.get(configuration["name"]))
    offered = history if tail is None else history[-1 - tail :]
    candidates = [int(key) for keys in offered for key in keys.to_array()]
    limit = configuration.get("limit") or 10**9
    match configuration["name"]:
        case "CoresetStrategy":
            target = len(candidates)
            if len(history) - 1 >= configuration["warmup_triggers"]:
                presampling = configuration["presampling_config"]
                target = share_of(target, presampling)
                if presampling.get("force_column_balancing") and candidates:
                    groups = np.unique(np.array(candidates) % 3, return_counts=True)[1]
                    target = min(target, limit)
                    share = min(int(groups.min()), target // len(groups))
                    target = share * len(groups) if share else target
        case "FreshnessSamplingStrategy":
            used = {key for keys in selected for key in keys}
            target = freshness_oracle(configuration["unused_data_ratio"], len(used), len(candidates) - len(used))
        case "SlidingWindowStrategy":
            window = configuration["window"]
            newest = max(candidates, default=0)
            target = sum(newest - key < 12 for key in candidates) if window == "2m" else min(window, len(candidates))
        case "ReplayStrategy":
            old, ratio = len(candidates) - sizes[-1], configuration["old_ratio"]
            target = sizes[-1] + min(old, sizes[-1] * ratio // (100 - ratio))
        case "WeightedStrategy":
            target = share_of(len(candidates), configuration)
        case _:
            target = len(candidates)
    return int(min(target, limit))


def share_of(num_candidates: int, configuration: dict[str, Any]) -> int:
    share = num_candidates * configuration.get("ratio", 100) // configuration.get("ratio_max", 100)
    return int(max(share, 1 if num_candidates else 0))


def freshness_oracle(ratio: int, num_used: int, num_unused: int) -> int:
    """The largest total whose shares, rounded against the part that there is enough of, are there."""
    if num_used == 0:
        return num_unused
    return max(
        total
        for total in range(num_used + num_unused + 1)
        if total * ratio <= 100 * num_unused and total * (100 - ratio) <= 100 * num_used
    )


@given(history=histories(), tail=st.none() | st.integers(0, 8))
def test_tail_triggers_against_an_oracle(history: list[KeySet], tail: int | None) -> None:
    policy = SELECTION_POLICIES.parse({"name": "NewDataStrategy", "tail_triggers": tail})
    expected: list[int] = []
    for index, keys in enumerate(history):
        if tail is None or index >= len(history) - 1 - tail:
            expected.extend(int(key) for key in keys.to_array())
    assert select(policy, history) == expected


@given(history=histories(), limit=st.integers(1, 60))
def test_last_x_is_the_end_of_everything_so_far(history: list[KeySet], limit: int) -> None:
    policy = SELECTION_POLICIES.parse({"name": "NewDataStrategy", "tail_triggers": None, "limit": limit})
    everything = [int(key) for keys in history for key in keys.to_array()]
    assert select(policy, history) == everything[-limit:]


def test_a_limited_sample_of_new_data_is_uniform() -> None:
    policy = SELECTION_POLICIES.parse({"name": "NewDataStrategy", "limit": 5})
    counts = np.zeros(20)
    for seed in range(2000):
        counts[select(policy, [KeySet(ranges=(KeyRange(0, 20),))], seed)] += 1
    assert (((counts - 500) ** 2) / (500 * 0.75)).sum() < 64


def test_new_data_without_a_limit_stays_ranges() -> None:
    policy = SELECTION_POLICIES.parse({"name": "NewDataStrategy", "tail_triggers": None})
    history = [TriggerData(i, KeySet(ranges=(KeyRange(10 * i, 10 * i + 10),))) for i in range(100)]
    assert policy.select(SelectionInput(history, Columns(), 0)).keys.ranges == (KeyRange(0, 1000),)


@pytest.mark.parametrize("limit", [-1, None])
def test_minus_one_and_null_are_no_limit(limit: int | None) -> None:
    assert SELECTION_POLICIES.parse({"name": "NewDataStrategy", "limit": limit}).model_dump()["limit"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "NewDataStrategy", "limit": 0},
        {"name": "NewDataStrategy", "limit": -2},
        {"name": "NewDataStrategy", "tail_triggers": -1},
        {"name": "NewDataStrategy", "limit_reset": "first"},
        {"name": "CoresetStrategy", "presampling_config": {"strategy": "Random", "ratio": 0}},
        {"name": "CoresetStrategy", "presampling_config": {"strategy": "Random", "ratio": 101}},
        {"name": "CoresetStrategy", "presampling_config": {"strategy": "Random"}},
        {"name": "CoresetStrategy", "presampling_config": {"strategy": "No", "ratio": 50}},
        {"name": "CoresetStrategy", "warmup_triggers": -1},
        {"name": "CoresetStrategy", "presampling_config": {"strategy": "TriggerBalanced", "ratio": 10}},
        {"name": "FreshnessSamplingStrategy"},
        {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 0},
        {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 100},
        {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 50, "tail_triggers": 0},
        {"name": "SlidingWindowStrategy"},
        {"name": "SlidingWindowStrategy", "window": 0},
        {"name": "SlidingWindowStrategy", "window": "0d"},
        {"name": "SlidingWindowStrategy", "window": "30"},
        {"name": "SlidingWindowStrategy", "window": True},
        {"name": "SlidingWindowStrategy", "window": 1.5},
        {"name": "ReplayStrategy", "old_ratio": 0},
        {"name": "ReplayStrategy", "old_ratio": 100},
        {"name": "ReplayStrategy", "old_ratio": 50, "tail_triggers": 0},
        {"name": "ReplayStrategy", "old_ratio": 50, "half_life": "1d"},
        {"name": "ReplayStrategy", "old_ratio": 50, "age_decay": "exponential"},
        {"name": "WeightedStrategy", "limit": 5},
        {"name": "WeightedStrategy", "class_weights": "balanced", "half_life": "1d", "limit": 5},
        {"name": "WeightedStrategy", "class_weights": "balanced"},
        {"name": "WeightedStrategy", "class_weights": "balanced", "weight_column": "w", "limit": 5},
        {"name": "WeightedStrategy", "class_weights": "equal", "limit": 5},
        {"name": "WeightedStrategy", "class_weights": {}, "limit": 5},
        {"name": "WeightedStrategy", "class_weights": {0: -1}, "limit": 5},
        {"name": "WeightedStrategy", "class_weights": {0: float("nan")}, "limit": 5},
        {"name": "WeightedStrategy", "class_weights": {"cat": 1}, "limit": 5},
        {"name": "WeightedStrategy", "class_weights": "balanced", "apply": "loss", "unbiased": True},
        {"name": "WeightedStrategy", "class_weights": "balanced", "ratio": 7, "ratio_max": 5},
        {"name": "CoresetStrategy", "downsampling_config": {"strategy": "Loss"}},
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SELECTION_POLICIES.parse(wrong)


@pytest.mark.parametrize(
    "configuration",
    [
        {"name": "NewDataStrategy", "tail_triggers": None, "limit": 1_000_000, "limit_reset": "sampleUAR"},
        {"name": "NewDataStrategy", "tail_triggers": None, "limit": 1_000_000},
        {
            "name": "CoresetStrategy",
            "tail_triggers": None,
            "presampling_config": {"strategy": "Random", "ratio": 10},
        },
    ],
    ids=ids,
)
@pytest.mark.parametrize("scattered", [False, True])
def test_ten_million_keys(configuration: dict[str, Any], scattered: bool) -> None:
    keys = [KeySet(ranges=(KeyRange(0, 5_000_000),)), KeySet(ranges=(KeyRange(5_000_000, 10_000_000),))]
    if scattered:
        keys = [KeySet(array=part.to_array()[::-1].copy()) for part in keys]
    history = [TriggerData(i, part) for i, part in enumerate(keys)]
    policy = SELECTION_POLICIES.parse(configuration)
    started = time.process_time()
    selection = policy.select(SelectionInput(history, Columns(), 0))
    assert time.process_time() - started < 2
    assert len(selection.keys) == 1_000_000
