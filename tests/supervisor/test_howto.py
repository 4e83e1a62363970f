"""The plug-in of the how-to page works as the page says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from modyn.core.plugins.triggers import TRIGGERS, Arrivals

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "add_a_plugin.md"


def test_the_trigger_of_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TRIGGERS, "_classes", dict(TRIGGERS._classes))  # forget it afterwards
    source = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    (tmp_path / "hours_of_the_page.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("hours_of_the_page")
    trigger = TRIGGERS.parse({"id": "HoursTrigger", "num_hours": 2})
    times = np.array([0, 10, 3600, 3700, 7200, 7300, 9000, 10800])
    state, firing = trigger.next_firing(trigger.initial_state(), Arrivals(np.arange(8), times))
    assert firing is not None
    assert (firing.position, firing.timestamp) == (3, 3600)
    state, firing = trigger.next_firing(state, Arrivals(np.arange(3, 8), times[3:]))
    assert firing is not None
    assert (firing.position, firing.timestamp) == (2, 7200)
