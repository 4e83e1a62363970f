"""A running evaluator on real storage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.jobs import ForkServerLauncher
from modyn.evaluator.service import PRELOAD
from tests.helpers.evaluating import EvaluationServer


@pytest.fixture(scope="session")
def launcher() -> Iterator[ForkServerLauncher]:
    launcher = ForkServerLauncher(PRELOAD)
    yield launcher
    launcher.close()


@pytest.fixture
def server(launcher: ForkServerLauncher) -> Iterator[EvaluationServer]:
    """Allows user code."""
    folder = Path(tempfile.mkdtemp(prefix="modyn-"))  # short: a Unix socket's path has at most 107 bytes
    running = EvaluationServer(folder, launcher)
    yield running
    running.close()
    shutil.rmtree(folder)
