"""Every complete pipeline shown in the documentation is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modyn.core.config.reader import load_pipeline_text

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
PIPELINES = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
    if re.search(r"^pipeline:", text, re.MULTILINE)
]


def test_there_are_such_pipelines() -> None:
    assert len(PIPELINES) >= 3


@pytest.mark.parametrize("text", PIPELINES)
def test_a_documented_pipeline_is_valid(text: str) -> None:
    loaded = load_pipeline_text(text, "documented.yaml")
    assert loaded.require_runnable()
    assert loaded.notices == []
