"""Locks on a state directory, between real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modyn.core.errors import ConflictError, InvalidInputError
from modyn.core.state import SERVICES, StateDirectory

HOLDER = """
import sys
from modyn.core.state import StateDirectory
claim = StateDirectory(sys.argv[1]).claim(sys.argv[2].split(","), "run digits")
claim.announce("127.0.0.1:77")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(path: Path, services: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), services], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_state_in_use_is_refused_by_name(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    with another_process(state.path, "supervisor,storage") as process:
        with pytest.raises(ConflictError, match=rf"in use by 'run digits' \(process {process.pid}\).*--state DIR"):
            state.claim(SERVICES, "run other")
        holder = state.holder()
        assert holder is not None
        assert (holder.pid, holder.what, holder.address) == (process.pid, "run digits", "127.0.0.1:77")
        # all or none: what was free stayed free
        state.claim(["selector", "evaluator"], "serve selector").close()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    with another_process(state.path, "supervisor") as process:
        process.kill()
        process.wait()
        assert state.holder() is None
        state.claim(SERVICES, "next run").close()


def test_services_can_be_held_by_different_processes(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    with another_process(state.path, "storage"), another_process(state.path, "selector"):
        claim = state.claim(["supervisor"], "serve supervisor")
        assert [state.holder(service) is None for service in SERVICES] == [False, False, True, True, False]
        claim.close()


def test_a_claim_is_released_and_can_be_taken_again(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    claim = state.claim(SERVICES, "first")
    with pytest.raises(ConflictError, match="'first'"):
        state.claim(SERVICES, "second")
    claim.close()
    claim = state.claim(SERVICES, "second")
    holder = state.holder()
    assert holder is not None
    assert (holder.what, holder.pid, holder.address) == ("second", os.getpid(), None)
    claim.close()


def test_looking_at_a_state_does_not_create_it(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    assert state.holder() is None
    assert not state.path.exists()


def test_a_state_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match=r"--state .*file/s: cannot create the directory"):
        StateDirectory(tmp_path / "file" / "s").create()


def test_folders_are_created_on_first_use(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    assert state.folder("models") == tmp_path / "s" / "models"
    assert state.folder("models").is_dir()
