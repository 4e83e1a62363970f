"""A folder of user code that is forgotten after the test."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest


class CodeRoot:
    """A pipeline's own folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def write(self, name: str, source: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))


@pytest.fixture
def code_root(tmp_path: Path) -> Iterator[CodeRoot]:
    path, modules = list(sys.path), set(sys.modules)
    root = tmp_path / "code"
    root.mkdir()
    yield CodeRoot(root)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(root)):
            del sys.modules[name]
