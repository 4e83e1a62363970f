"""A running trainer server with real storage, and a selector that serves the training sets a test hands it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.jobs import ForkServerLauncher
from modyn.trainer_server.service import PRELOAD
from tests.helpers.code import CodeRoot
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


@pytest.fixture
def code_root(tmp_path: Path) -> CodeRoot:
    return CodeRoot(tmp_path)
