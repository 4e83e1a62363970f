"""Running the command line in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT_SECONDS = 120


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MODYN_")}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1"}


def modyn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``modyn-client`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "modyn.client.cli", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


def start_modyn(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Starts ``modyn-client`` in a session of its own, as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-m", "modyn.client.cli", *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
