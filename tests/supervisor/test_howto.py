"""The trigger of the how-to page works as the page says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from modyn.core.plugins.triggers import TRIGGERS, Arrivals
from tests.helpers.observing import ArrayObserver

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "add_a_trigger.md"


def test_the_trigger_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TRIGGERS, "_classes", dict(TRIGGERS._classes))  # forget it afterwards
    source = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    (tmp_path / "hours_of_the_page.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("hours_of_the_page")
    trigger = TRIGGERS.parse({"id": "HoursTrigger", "num_hours": 2})
    times = np.array([0, 10, 3600, 3700, 7200, 7300, 9000, 10800])
    observe = ArrayObserver(np.zeros((8, 1)))
    state, firing, evaluations = trigger.next_firing(trigger.initial_state(), Arrivals(np.arange(8), times), observe)
    assert firing is not None
    assert (firing.position, firing.timestamp) == (3, 3600)
    assert evaluations[-1].decision
    firing = trigger.next_firing(state, Arrivals(np.arange(3, 8), times[3:]), observe).firing
    assert firing is not None
    assert (firing.position, firing.timestamp) == (2, 7200)
