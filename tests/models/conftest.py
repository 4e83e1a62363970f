"""A folder of user code that is forgotten after the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.code import CodeRoot


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
