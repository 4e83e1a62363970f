"""A few configurations of every selection policy and presampling strategy, and what tests of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput, SelectionPolicy, TriggerData

NEW_DATA: list[dict[str, Any]] = [
    {"name": "NewDataStrategy", "tail_triggers": tail, "limit": limit, "limit_reset": reset}
    for tail, limit, reset in [
        (0, None, "lastX"),
        (0, 7, "sampleUAR"),
        (1, 7, "lastX"),
        (3, 1000, "lastX"),
        (None, 1, "lastX"),
        (None, 7, "sampleUAR"),
    ]
]
PRESAMPLING: list[dict[str, Any]] = [
    {"strategy": "No", "ratio": 100},
    {"strategy": "Random", "ratio": 30},
    {"strategy": "Random", "ratio": 30, "with_replacement": True},
    {"strategy": "RandomNoReplacement", "ratio": 30},
    {"strategy": "LabelBalanced", "ratio": 125, "ratio_max": 1000},
    {"strategy": "LabelBalanced", "ratio": 60, "force_column_balancing": True},
    {"strategy": "TriggerBalanced", "ratio": 30},
]
CORESET: list[dict[str, Any]] = [
    {
        "name": "CoresetStrategy",
        "tail_triggers": tail,
        "limit": limit,
        "warmup_triggers": warmup,
        "presampling_config": presampling,
    }
    for tail, limit, warmup in ((1, None, 2), (None, 5, 0))
    for presampling in PRESAMPLING
]
OTHERS: list[dict[str, Any]] = [
    {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 40},
    {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 90, "limit": 7},
    {"name": "SlidingWindowStrategy", "window": 9},
    {"name": "SlidingWindowStrategy", "window": "2m", "limit": 5},
    {"name": "ReplayStrategy", "old_ratio": 30},
    {"name": "ReplayStrategy", "old_ratio": 70, "limit": 6, "tail_triggers": 2},
    {"name": "ReplayStrategy", "old_ratio": 50, "limit": 7, "age_decay": "exponential", "half_life": "1m"},
    {"name": "WeightedStrategy", "class_weights": "balanced", "ratio": 40, "tail_triggers": None, "unbiased": True},
    {"name": "WeightedStrategy", "class_weights": {"0": 5, "2": 0.5}, "limit": 6, "tail_triggers": 1},
    {"name": "WeightedStrategy", "class_weights": {"0": 5}, "limit": 6, "tail_triggers": 1, "apply": "loss"},
    {"name": "WeightedStrategy", "half_life": "1m", "ratio": 40, "tail_triggers": None, "unbiased": True},
    {"name": "WeightedStrategy", "half_life": "1m", "tail_triggers": None, "apply": "loss"},
    {"name": "WeightedStrategy", "weight_column": "x", "ratio": 40, "tail_triggers": 1},
    {"name": "WeightedStrategy", "weight_column": "x", "limit": 6, "tail_triggers": None, "unbiased": True},
    {"name": "WeightedStrategy", "weight_column": "x", "tail_triggers": None, "apply": "loss"},
]
CONFIGURATIONS: list[dict[str, Any]] = NEW_DATA + CORESET + OTHERS


def ids(configuration: dict[str, Any]) -> str:
    parts = [configuration["name"], *(f"{key}={value}" for key, value in configuration.items() if key != "name")]
    return "-".join(str(part) for part in parts)


def draws_again(configuration: dict[str, Any], trigger: int) -> bool:
    presampling = configuration.get("presampling_config", {})
    return bool(presampling.get("with_replacement")) and trigger >= configuration["warmup_triggers"]


Array = npt.NDArray[Any]


class Table:
    """Columns of samples whose keys are 0, 1, 2 …"""

    def __init__(self, labels: Any, times: Any = None, **columns: Any) -> None:
        self.columns = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
        self._labels = labels if isinstance(labels, pa.Array) else pa.array(labels)
        self._times = np.arange(len(self._labels)) if times is None else np.asarray(times)

    def labels(self, keys: KeySet) -> pa.Array:
        return self._labels.take(pa.array(keys.to_array()))

    def timestamps(self, keys: KeySet) -> Int64Array:
        return self._times[keys.to_array()]

    def values(self, keys: KeySet, column: str) -> npt.NDArray[np.float64]:
        return self.columns[column][keys.to_array()]


def span(start: int, end: int) -> KeySet:
    return KeySet.from_ranges([KeyRange(start, end)])


def select(
    configuration: dict[str, Any] | SelectionPolicy,
    history: list[KeySet],
    table: Table,
    seed: int = 0,
    selected: tuple[KeySet, ...] = (),
) -> Selection:
    entries = [TriggerData(i, keys) for i, keys in enumerate(history)]
    policy = SELECTION_POLICIES.parse(configuration) if isinstance(configuration, dict) else configuration
    return policy.select(SelectionInput(entries, table, seed, selected))


def keys_of(selection: Selection) -> list[int]:
    return [int(key) for key in selection.keys.to_array()]


def coreset(strategy: str, ratio: int, **more: Any) -> dict[str, Any]:
    presampling = {"strategy": strategy, "ratio": ratio, **more}
    return {"name": "CoresetStrategy", "tail_triggers": None, "presampling_config": presampling}


def chances(configuration: dict[str, Any], history: list[KeySet], table: Table, runs: int, **more: Any) -> Array:
    """How often each key was chosen, as a share of the runs."""
    counts = np.zeros(sum(map(len, history)))
    policy = SELECTION_POLICIES.parse(configuration)
    for seed in range(runs):
        np.add.at(counts, select(policy, history, table, seed, **more).keys.to_array(), 1)
    return counts / runs


def close(found: Array, expected: Array | float, runs: int) -> bool:
    """Within 5 standard deviations, of which one in 1.7 million is out by chance."""
    expected = np.broadcast_to(expected, found.shape)
    return bool((np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / runs) + 1e-9).all())
