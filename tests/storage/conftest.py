"""Fixtures of the storage tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.state import StateDirectory
from tests.storage.support import StorageServer


@pytest.fixture
def storage(state: StateDirectory) -> Iterator[StorageServer]:
    """A running storage service on SQLite."""
    server = StorageServer(state)
    yield server
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty source folder."""
    path = tmp_path / "source"
    path.mkdir()
    return path
