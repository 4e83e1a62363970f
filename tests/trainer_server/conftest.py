"""A running trainer server with real storage, and a selector that serves the training sets a test hands it."""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.jobs import ForkServerLauncher
from modyn.trainer_server.service import PRELOAD
from tests.helpers.training import TrainingServer


@pytest.fixture(scope="session")
def launcher() -> Iterator[ForkServerLauncher]:
    launcher = ForkServerLauncher(PRELOAD)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def server(launcher: ForkServerLauncher) -> Iterator[TrainingServer]:
    """Allows user code."""
    folder = Path(tempfile.mkdtemp(prefix="modyn-"))  # short: a Unix socket's path has at most 107 bytes
    running = TrainingServer(folder, launcher, allow_user_code=True)
    yield running
    running.close()
    shutil.rmtree(folder)


class CodeRoot:
    """A pipeline's own folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def write(self, name: str, source: str) -> None:
        (self.path / name).write_text(textwrap.dedent(source))


@pytest.fixture
def code_root(tmp_path: Path) -> CodeRoot:
    return CodeRoot(tmp_path)
