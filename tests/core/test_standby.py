"""Processes that are forked ahead of their jobs: used, replaced, and gone with their server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modyn.core import standby
from modyn.core.errors import CancelledError, JobFailedError
from modyn.core.jobs import ForkServerLauncher, Job, JobDescription
from modyn.core.standby import IDLE_SECONDS, SPARES, Standby, Standbys
from tests.core.test_jobs import JOBS, alive, describe, pid_of, server_pid, wait_until_dead

WARM_UP = f"{JOBS}:warm_up"


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServerLauncher]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    launcher = ForkServerLauncher([JOBS])
    yield launcher
    launcher.close()


@pytest.fixture
def nursery(tmp_path: Path) -> Path:
    """Where standbys leave their pids once they are warm."""
    folder = tmp_path / "nursery"
    folder.mkdir()
    return folder


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def standbys(nursery: Path, but: int = 0) -> set[int]:
    """Those that live, when there are as many as there should be; without one that is a job now."""

    def living() -> set[int]:
        return {int(path.name) for path in nursery.iterdir() if alive(int(path.name)) and int(path.name) != but}

    eventually(lambda: len(living()) == SPARES)
    return living()


def answer(job: Job) -> tuple[int, str]:
    """Of ``who``: its pid, and what it was warmed up with."""
    (event,) = job.events()
    pid, _, warmed_by = event.decode().partition(" ")
    return int(pid), warmed_by


def test_jobs_run_in_processes_that_were_there_before(
    launcher: ForkServerLauncher, nursery: Path, tmp_path: Path
) -> None:
    launcher.warm_up(WARM_UP, str(nursery))
    seen: set[int] = set()
    for _ in range(2 * SPARES):
        waiting = standbys(nursery)
        pid, warmed_by = answer(launcher.launch(describe("who", tmp_path)))
        assert (pid in waiting, warmed_by) == (True, str([str(nursery)]))
        assert pid not in seen, "a process runs one job"
        seen.add(pid)
    output = (tmp_path / "log" / "err.txt").read_text()
    assert output == "its own output\n" * (2 * SPARES)  # what a standby printed belongs to no job


def test_more_jobs_at_once_than_standbys(launcher: ForkServerLauncher, nursery: Path, tmp_path: Path) -> None:
    launcher.warm_up(WARM_UP, str(nursery))  # not awaited: the first jobs come while the first one is being made
    jobs = [launcher.launch(describe("who", tmp_path / str(i))) for i in range(8)]
    assert len({answer(job)[0] for job in jobs}) == 8


def test_failures_and_kills_are_those_of_any_job(launcher: ForkServerLauncher, nursery: Path, tmp_path: Path) -> None:
    launcher.warm_up(WARM_UP, str(nursery))
    waiting = standbys(nursery)
    with pytest.raises(JobFailedError, match=r"RuntimeError: boom[\s\S]*line 29"):
        list(launcher.launch(describe("boom", tmp_path)).events())
    job = launcher.launch(describe("sleep", tmp_path))
    events = job.events()
    assert next(events) == b"sleeping"
    assert pid_of(job) in waiting
    job.cancel()
    with pytest.raises(CancelledError):
        next(events)
    wait_until_dead([pid_of(job)])
    messages = launcher.launch(JobDescription(f"{JOBS}:echo_all", b"hi", tmp_path / "err", "job", receives=True))
    messages.send(b"there")
    messages.finish()
    assert list(messages.events()) == [b"hi", b"there", b"end"]


def test_a_standby_that_dies_is_replaced(launcher: ForkServerLauncher, nursery: Path, tmp_path: Path) -> None:
    launcher.warm_up(WARM_UP, str(nursery))
    killed = standbys(nursery)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until_dead(list(killed))
    pid, _ = answer(launcher.launch(describe("who", tmp_path)))
    assert pid not in killed
    assert not standbys(nursery, but=pid) & killed


@pytest.mark.parametrize("trouble", ["raise", "die"])
def test_a_warm_up_that_fails_keeps_no_job_from_running(
    launcher: ForkServerLauncher, tmp_path: Path, trouble: str
) -> None:
    launcher.warm_up(WARM_UP, trouble)
    assert [len(str(answer(launcher.launch(describe("who", tmp_path)))[0])) > 0 for _ in range(3)] == [True] * 3


def test_a_warm_up_that_hangs_holds_a_job_up_for_a_moment_only(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    launcher.warm_up(WARM_UP, "hang")
    launcher.wait_ready()
    started = time.monotonic()
    answer(launcher.launch(describe("who", tmp_path)))
    assert time.monotonic() - started < standby.PATIENCE_SECONDS + 2


def test_other_addresses_make_other_standbys(launcher: ForkServerLauncher, nursery: Path, tmp_path: Path) -> None:
    launcher.warm_up(WARM_UP, "")
    launcher.warm_up(WARM_UP, str(nursery))
    first = standbys(nursery)
    other = tmp_path / "other"
    other.mkdir()
    launcher.warm_up(WARM_UP, str(other))
    assert answer(launcher.launch(describe("who", tmp_path)))[1] == str([str(other)])
    wait_until_dead(list(first))


def test_standbys_end_with_their_server(launcher: ForkServerLauncher, nursery: Path) -> None:
    launcher.warm_up(WARM_UP, str(nursery))
    pids = standbys(nursery)
    os.kill(server_pid(launcher), signal.SIGKILL)
    wait_until_dead(list(pids))


def test_closing_ends_standbys(launcher: ForkServerLauncher, nursery: Path) -> None:
    launcher.warm_up(WARM_UP, str(nursery))
    pids = standbys(nursery)
    launcher.close()
    wait_until_dead([*pids, server_pid(launcher)])


def test_a_new_fork_server_is_told_how_to_warm_up(launcher: ForkServerLauncher, nursery: Path, tmp_path: Path) -> None:
    launcher.warm_up(WARM_UP, str(nursery))
    gone = standbys(nursery)
    os.kill(server_pid(launcher), signal.SIGKILL)
    eventually(lambda: not launcher._server.alive)
    wait_until_dead(list(gone))
    pid, _ = answer(launcher.launch(describe("who", tmp_path)))
    assert not standbys(nursery, but=pid) & gone


def test_standbys_nobody_needs_are_idle_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = Standbys()
    assert kept.timeout() is None
    kept.make_soon()
    assert not kept.is_due()  # nobody said how
    kept.warm_up = ("module:function", "")
    kept.make_soon(0.5)
    assert kept.timeout() == 0.5
    now += 0.5
    assert kept.is_due()
    kept.add(Standby(1, channel=None))  # type: ignore[arg-type]
    assert not kept.is_due()  # one after the other
    kept.there[0].warm = True
    assert kept.is_due()
    kept.add(Standby(2, channel=None, warm=True))  # type: ignore[arg-type]
    assert (kept.is_due(), kept.is_idle()) == (False, False)
    assert kept.timeout() == IDLE_SECONDS - 0.5
    now += IDLE_SECONDS - 0.5
    assert kept.is_idle()
