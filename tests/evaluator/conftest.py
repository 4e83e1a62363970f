"""A running evaluator on real storage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def running(launcher: ForkServerLauncher) -> Iterator[EvaluationServer]:
    folder = Path(tempfile.mkdtemp(prefix="modyn-"))  # short: a Unix socket's path has at most 107 bytes
    server = EvaluationServer(folder, launcher)
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def _shared_server(launcher: ForkServerLauncher) -> Iterator[EvaluationServer]:
    with running(launcher) as server:
        yield server


@pytest.fixture
def server(_shared_server: EvaluationServer) -> EvaluationServer:
    """One for all tests of a module; allows user code. Every dataset has a name of its own, so tests share nothing."""
    _shared_server.launcher.launched = 0
    return _shared_server


@pytest.fixture
def fresh_server(launcher: ForkServerLauncher) -> Iterator[EvaluationServer]:
    """One with an empty state."""
    with running(launcher) as server:
        yield server
