"""The policy and the strategy of the how-to page work as the page says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, ScoringStrategy
from modyn.core.plugins.selection import SELECTION_POLICIES, SelectionInput, TriggerData

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "add_a_selection_policy.md"


class HalfHours:
    """A sample every half hour."""

    def labels(self, keys: KeySet) -> pa.Array:
        return pa.array(keys.to_array() % 2)

    def timestamps(self, keys: KeySet) -> Int64Array:
        return keys.to_array() * 1800

    def values(self, keys: KeySet, column: str) -> npt.NDArray[np.float64]:
        return np.zeros(len(keys))


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for registry in (SELECTION_POLICIES, DOWNSAMPLING_STRATEGIES):
        registry.names()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))  # forget it afterwards
    policy, _, strategy, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "same_hours_of_the_page.py").write_text(policy)
    (tmp_path / "middling_of_the_page.py").write_text(strategy)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("same_hours_of_the_page", "middling_of_the_page"):
        sys.modules.pop(name, None)
        importlib.import_module(name)


def test_the_policy_of_the_page() -> None:
    policy = SELECTION_POLICIES.parse({"name": "SameHoursStrategy", "num_hours": 1})
    data = SelectionInput([TriggerData(0, KeySet.from_ranges([KeyRange(0, 100)]))], HalfHours(), 0)
    assert policy.select(data).keys.to_array().tolist() == [2, 3, 50, 51, 98, 99]


def test_the_strategy_of_the_page() -> None:
    strategy = DOWNSAMPLING_STRATEGIES.parse({"strategy": "Middling", "ratio": 50})
    assert isinstance(strategy, ScoringStrategy)
    losses = np.array([9, 1, 2, 0, 3, 4], dtype=np.float32)
    choice = strategy.choose(Candidates(np.zeros(6, np.int64), loss=losses), 3, np.random.default_rng())
    assert choice.positions.tolist() == [1, 2, 4]
