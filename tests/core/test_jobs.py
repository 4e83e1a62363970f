"""Jobs in real child processes: results, errors, kills; and that nothing outlives its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.errors import CancelledError, InvalidInputError, JobFailedError, UnavailableError
from modyn.core.jobs import STDERR_TAIL_LINES, ForkServerLauncher, Job, JobDescription

JOBS = "tests.helpers.jobs"


@pytest.fixture(scope="module", autouse=True)
def importable_helpers() -> Iterator[None]:
    """The fork server is another process: it finds the test helpers through its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        yield


@pytest.fixture(scope="module")
def launcher(importable_helpers: None) -> Iterator[ForkServerLauncher]:
    launcher = ForkServerLauncher([JOBS])
    launcher.wait_ready()
    yield launcher
    launcher.close()


def describe(name: str, folder: Path, payload: bytes = b"") -> JobDescription:
    return JobDescription(
        entry=f"{JOBS}:{name}", payload=payload, stderr=folder / "log" / "err.txt", what=f"job {name}"
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pids: list[int], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still alive: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.02)


def pid_of(job: Job) -> int:
    return job._pid.result(timeout=5)  # type: ignore[attr-defined, no-any-return]


def server_pid(launcher: ForkServerLauncher) -> int:
    return launcher._server._process.pid


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_job_gets_its_payload_and_sends_events(launcher: ForkServerLauncher, tmp_path: Path, size: int) -> None:
    payload = os.urandom(size)
    assert list(launcher.launch(describe("echo", tmp_path, payload)).events()) == [payload]


def test_many_jobs_at_once_do_not_mix(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    jobs = [launcher.launch(describe("echo", tmp_path / str(i), str(i).encode())) for i in range(20)]
    assert [list(job.events()) for job in jobs] == [[str(i).encode()] for i in range(20)]


def test_starting_a_job_is_cheap(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    seconds = []
    for _ in range(15):
        started = time.perf_counter()
        list(launcher.launch(describe("echo", tmp_path)).events())
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[7] < 0.15


def test_a_failed_job_shows_the_end_of_its_output(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as caught:
        list(launcher.launch(describe("boom", tmp_path)).events())
    first, second, *tail = caught.value.message.splitlines()
    assert first == "job boom failed: RuntimeError: boom"
    assert second == f"last lines of its output ({tmp_path / 'log' / 'err.txt'}):"
    assert len(tail) == STDERR_TAIL_LINES
    assert tail[-1].strip() == "RuntimeError: boom"
    assert "line 0" in (tmp_path / "log" / "err.txt").read_text()


def test_a_domain_error_keeps_its_class(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="label 12 is outside") as caught:
        list(launcher.launch(describe("bad_input", tmp_path)).events())
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("entry", ["tests.helpers.jobs:nothing", "no.such.module:f"])
def test_an_entry_point_that_does_not_exist(launcher: ForkServerLauncher, tmp_path: Path, entry: str) -> None:
    job = launcher.launch(JobDescription(entry, b"", tmp_path / "err", "job"))
    with pytest.raises(JobFailedError, match=r"job failed: (AttributeError|ModuleNotFoundError)"):
        list(job.events())


def test_jobs_import_from_where_their_server_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity of user code is found in the server; a job must not find other modules, such as those of a folder
    that the server was started in."""
    code = "def run(payload, emit):\n    emit(__file__.encode())\n"
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "found_where.py").write_text(code)
    (tmp_path / "here" / "only_here.py").write_text(code)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "there"))
    launcher = ForkServerLauncher([])
    try:
        log = tmp_path / "log.txt"
        job = launcher.launch(JobDescription("found_where:run", b"", log, "a job"))
        assert [event.decode() for event in job.events()] == [str(tmp_path / "there" / "found_where.py")]
        with pytest.raises(JobFailedError, match="only_here"):
            list(launcher.launch(JobDescription("only_here:run", b"", log, "a job")).events())
    finally:
        launcher.close()


def test_a_job_that_kills_itself_takes_nothing_with_it(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match=r"killed by SIGKILL; out of memory, or killed from outside \(no output"):
        list(launcher.launch(describe("suicide", tmp_path)).events())
    assert list(launcher.launch(describe("echo", tmp_path, b"x")).events()) == [b"x"]


def test_a_job_killed_from_outside(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job = launcher.launch(describe("sleep", tmp_path))
    events = job.events()
    assert next(events) == b"sleeping"
    os.kill(pid_of(job), signal.SIGTERM)
    with pytest.raises(JobFailedError, match="killed by SIGTERM"):
        next(events)


def test_cancelling_kills_the_job(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job = launcher.launch(describe("sleep", tmp_path))
    events = job.events()
    next(events)
    threading.Timer(0.1, job.cancel).start()
    with pytest.raises(CancelledError, match="job sleep was cancelled"):
        next(events)
    wait_until_dead([pid_of(job)])
    job.cancel()  # again, when it is long gone


def test_cancelling_before_the_first_event(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job = launcher.launch(describe("sleep", tmp_path))
    job.cancel()
    with pytest.raises(CancelledError):
        list(job.events())


def test_a_killed_fork_server_fails_its_jobs_and_is_replaced(tmp_path: Path) -> None:
    launcher = ForkServerLauncher([JOBS])
    job = launcher.launch(describe("sleep", tmp_path))
    events = job.events()
    next(events)
    child = pid_of(job)
    os.kill(server_pid(launcher), signal.SIGKILL)
    with pytest.raises(JobFailedError, match="ended without a result"):
        next(events)
    wait_until_dead([child])
    deadline = time.monotonic() + 5
    while launcher._server.alive and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(launcher.launch(describe("echo", tmp_path, b"again")).events()) == [b"again"]
    launcher.close()


def test_closing_kills_everything_and_refuses_more(tmp_path: Path) -> None:
    launcher = ForkServerLauncher([JOBS])
    job = launcher.launch(describe("sleep", tmp_path))
    events = job.events()
    next(events)
    pids = [server_pid(launcher), pid_of(job)]
    launcher.close()
    wait_until_dead(pids)
    with pytest.raises(UnavailableError, match="the server is stopping"):
        launcher.launch(describe("echo", tmp_path))
    with pytest.raises(JobFailedError):
        next(events)


def test_jobs_wait_for_the_rest_of_what_is_imported(importable_helpers: None, tmp_path: Path) -> None:
    launcher = ForkServerLauncher(["json"], complete=False)
    with pytest.raises(UnavailableError, match=r"not ready in 0.2 s"):
        launcher.wait_ready(0.2)
    launcher.complete([JOBS])
    assert list(launcher.launch(describe("echo", tmp_path, b"x")).events()) == [b"x"]
    launcher.close()


def test_a_launcher_that_was_never_complete_leaves_no_process() -> None:
    launcher = ForkServerLauncher(["json"], complete=False)
    pid = server_pid(launcher)
    launcher.close()
    wait_until_dead([pid])


def test_a_preload_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    launcher = ForkServerLauncher(["no.such.module"])
    with pytest.raises(UnavailableError, match="died while starting"):
        launcher.launch(describe("echo", tmp_path))
    launcher.close()


SERVER = """
import sys
from pathlib import Path
from modyn.core.jobs import ForkServerLauncher, JobDescription
launcher = ForkServerLauncher(["tests.helpers.jobs"])
job = launcher.launch(JobDescription("tests.helpers.jobs:sleep", b"", Path(sys.argv[1]), "job"))
next(job.events())
print(launcher._server._process.pid, job._pid.result(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="children are bound to their parent by prctl")
def test_nothing_outlives_a_killed_server(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path / "err")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        server.kill()
        wait_until_dead(pids)


def test_the_fork_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[ForkServerLauncher] = []

    def start() -> None:
        started.append(ForkServerLauncher([JOBS]))
        started[0].wait_ready()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    pid = started[0]._server._process.pid
    time.sleep(0.3)
    try:
        assert alive(pid)
    finally:
        started[0].close()


# ------------------------------------------------------------------------------------------- jobs that receive


def receiving(launcher: ForkServerLauncher, folder: Path) -> tuple[Job, Iterator[bytes]]:
    description = JobDescription(f"{JOBS}:echo_all", b"hello", folder / "err", "job echo_all", receives=True)
    job = launcher.launch(description)
    events = job.events()
    assert next(events) == b"hello"
    return job, events


def test_a_job_gets_messages_while_it_runs(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job, events = receiving(launcher, tmp_path)
    for message in (b"", b"x", os.urandom(3_000_000)):
        job.send(message)
        assert next(events) == message
    job.finish()
    assert list(events) == [b"end"]
    wait_until_dead([pid_of(job)])
    job.send(b"nobody listens")
    job.finish()


def test_messages_sent_ahead_are_kept_in_order(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job, events = receiving(launcher, tmp_path)
    messages = [str(i).encode() for i in range(100)]
    for message in messages:
        job.send(message)
    job.finish()
    assert list(events) == [*messages, b"end"]


def test_a_job_that_dies_of_a_message(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job, events = receiving(launcher, tmp_path)
    job.send(b"die")
    with pytest.raises(
        JobFailedError, match=r"job echo_all failed: its process was killed by SIGKILL[\s\S]*last words"
    ):
        next(events)
    job.send(b"x" * 3_000_000)


def test_a_job_that_refuses_a_message(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job, events = receiving(launcher, tmp_path)
    job.send(b"refuse")
    with pytest.raises(InvalidInputError, match="message refused"):
        next(events)


def test_cancelling_while_a_job_neither_reads_nor_answers(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    job, events = receiving(launcher, tmp_path)
    job.send(b"hang")
    threading.Timer(0.2, job.cancel).start()
    job.send(b"x" * 3_000_000)  # more than the socket holds: waits until the job is killed
    with pytest.raises(CancelledError):
        next(events)


def test_a_job_that_waits_for_messages_dies_with_its_server(tmp_path: Path) -> None:
    launcher = ForkServerLauncher([JOBS])
    job, events = receiving(launcher, tmp_path)
    launcher.close()
    wait_until_dead([pid_of(job)])
    with pytest.raises(JobFailedError):
        next(events)
