"""One contract for every selection policy and presampling strategy, and an oracle for each policy's own rules."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
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

NEW_DATA: list[dict[str, Any]] = [
    {"name": "NewDataStrategy", "tail_triggers": tail, "limit": limit, "limit_reset": reset}
    for tail in (0, 1, 3, None)
    for limit in (None, 1, 7, 1000)
    for reset in ("lastX", "sampleUAR")
]
CORESET: list[dict[str, Any]] = [
    {
        "name": "CoresetStrategy",
        "tail_triggers": tail,
        "limit": limit,
        "warmup_triggers": warmup,
        "presampling_config": {"strategy": name, **ratio},
    }
    for tail in (0, None)
    for limit in (None, 5)
    for warmup in (0, 2)
    for name in PRESAMPLING_STRATEGIES.names()
    for ratio in ([{"ratio": 100}] if name == "No" else [{"ratio": 30}, {"ratio": 125, "ratio_max": 1000}])
]
CONFIGURATIONS: list[dict[str, Any]] = NEW_DATA + CORESET


def ids(configuration: dict[str, Any]) -> str:
    parts = [configuration["name"], *(f"{key}={value}" for key, value in configuration.items() if key != "name")]
    return "-".join(str(part) for part in parts)


class Columns:
    """Labels and timestamps that are functions of the key."""

    def labels(self, keys: KeySet) -> pa.Array:
        return pa.array(keys.to_array() % 3)

    def timestamps(self, keys: KeySet) -> Int64Array:
        return keys.to_array() * 10


def select(policy: SelectionPolicy, history: list[KeySet], seed: int = 0) -> list[int]:
    entries = [TriggerData(i, keys) for i, keys in enumerate(history)]
    selection = policy.select(SelectionInput(entries, Columns(), seed))
    if selection.weights is not None:
        assert len(selection.weights) == len(selection.keys)
        assert np.isfinite(selection.weights).all()
    return [int(key) for key in selection.keys.to_array()]


@st.composite
def histories(draw: st.DrawFn) -> list[KeySet]:
    """New data of some triggers: disjoint, each in the order of keys or in any other."""
    sizes = draw(st.lists(st.integers(0, 25), min_size=1, max_size=6))
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
    @settings(max_examples=15, deadline=None)
    def test_distinct_keys_that_were_offered_in_the_order_seen(
        self, configuration: dict[str, Any], history: list[KeySet], seed: int
    ) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        chosen = select(policy, history, seed)
        seen = [int(key) for keys in history for key in keys.to_array()]
        positions = [seen.index(key) for key in chosen]
        assert positions == sorted(set(positions))
        assert select(policy, history, seed) == chosen

    @given(history=histories())
    @settings(max_examples=15, deadline=None)
    def test_the_size_is_exact(self, configuration: dict[str, Any], history: list[KeySet]) -> None:
        policy = SELECTION_POLICIES.parse(configuration)
        assert len(select(policy, history)) == expected_size(configuration, [len(keys) for keys in history])

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
        deterministic = size == 5000 or configuration.get("limit_reset") == "lastX"
        if deterministic and (configuration["tail_triggers"] is None or size == 5000):
            return
        assert select(policy, data, seed=1) != select(policy, data, seed=2)
        empty = KeySet(ranges=())
        assert select(policy, [empty] * 3 + data) != select(policy, [empty] * 4 + data)


def expected_size(configuration: dict[str, Any], sizes: list[int]) -> int:
    """The stated size, by arithmetic."""
    tail = configuration["tail_triggers"]
    candidates = sum(sizes if tail is None else sizes[-1 - tail :])
    target = candidates
    presampling = configuration.get("presampling_config")
    if presampling and len(sizes) - 1 >= configuration["warmup_triggers"]:
        target = candidates * presampling["ratio"] // presampling.get("ratio_max", 100)
        target = max(target, 1 if candidates else 0)
    limit = configuration["limit"]
    return target if limit is None else min(target, limit)


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
