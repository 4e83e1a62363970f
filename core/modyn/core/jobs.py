"""Jobs: training and evaluation run in child processes, so that one that dies takes nothing with it.

A launcher is one small interface: a serializable description goes in, a stream of events comes out. The
:class:`ForkServerLauncher` runs jobs on this machine; other launchers can run them elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

from modyn.core.errors import ERRORS_BY_NAME, CancelledError, JobFailedError, UnavailableError
from modyn.core.forkserver import MAX_CONTROL_BYTES
from modyn.core.framing import DESCRIPTION, DONE, EVENT, FAILED, MESSAGE, receive_frame, send_frame

logger = logging.getLogger(__name__)

START_TIMEOUT_SECONDS = 120.0
"""For the fork server to import its libraries (cold disks are slow)."""

STDERR_TAIL_LINES = 20
"""How much of a failed job's output stands in the error."""


@dataclass(frozen=True)
class JobDescription:
    """What to run.

    Attributes:
        entry: ``module:function``; called as ``function(payload, emit)`` where ``emit(bytes)`` sends an event.
            It returns nothing; raising a :class:`~modyn.core.errors.ModynError` raises it at the server.
            A job that receives is called as ``function(payload, emit, receive)`` where ``receive()`` waits for the
            next message (bytes) and answers None once there will be none.
        payload: input of the function, usually a serialised protobuf message.
        stderr: file that takes the job's output (appended).
        what: for messages, such as ``training of trigger 3``.
        receives: whether the job takes messages while it runs.
        fresh: start it in a process that has connected to nothing and run nothing, so that it may fork.
    """

    entry: str
    payload: bytes
    stderr: Path
    what: str
    receives: bool = False
    fresh: bool = False


class Job(ABC):
    """A running job."""

    killed: str | None = None
    """How its process ended, once :meth:`events` has raised because it was killed or vanished; None: it was not."""

    @abstractmethod
    def events(self, *, until_gone: bool = True) -> Iterator[bytes]:
        """Events until the job ends.

        Args:
            until_gone: when it ended well, wait until its process is gone and its memory free, which takes a while.

        Raises:
            ModynError: the one the job raised.
            JobFailedError: it raised anything else, or was killed; with the last lines of its output.
            CancelledError: :meth:`cancel` was called.
        """

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Sends a message to a job that receives; waits while the job is busy and what it has not read yet is large.

        One thread at a time. A job that is gone takes nothing: what became of it shows in :meth:`events`.
        """

    @abstractmethod
    def finish(self) -> None:
        """No more messages will be sent: the job's next ``receive()`` answers None."""

    @abstractmethod
    def cancel(self) -> None:
        """Kills the job; safe at any time and from any thread."""


class JobLauncher(ABC):
    """Starts jobs."""

    @abstractmethod
    def launch(self, description: JobDescription) -> Job:
        """Starts a job; returns at once."""

    @abstractmethod
    def close(self) -> None:
        """Kills all jobs and releases everything."""


class ForkServerLauncher(JobLauncher):
    """Jobs forked from a process that has the given modules imported (see ``modyn.core.forkserver``).

    Construction returns at once; the first :meth:`launch` waits until the fork server is ready. A fork server
    that died is replaced at the next launch.

    Args:
        preload: modules that it imports.
        complete: False: there will be more of them, which :meth:`complete` names; until then no job can start.
    """

    def __init__(self, preload: Sequence[str], *, complete: bool = True) -> None:
        self._preload = list(preload)
        self._lock = threading.Lock()
        self._closed = False
        self._warm_up: tuple[str, str] | None = None
        self._memory_bytes: int | None = None
        self._server = _ForkServerProcess(self._preload)
        if complete:
            self._server.complete([])

    def complete(self, more: Sequence[str]) -> None:
        """Names the rest of what is imported, once."""
        with self._lock:
            self._preload += more
            self._server.complete(more)

    def wait_ready(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Blocks until jobs start fast."""
        self._server.wait_ready(timeout_seconds)

    def launch(self, description: JobDescription) -> Job:
        with self._lock:
            if self._closed:
                raise UnavailableError("the server is stopping; no new jobs are started")
            if not self._server.alive:
                logger.warning("the fork server died; starting another one")
                self._server.close()
                self._server = _ForkServerProcess(self._preload)
                self._server.complete([])
                self._tell_how_to_warm_up()
            server = self._server
        server.wait_ready(START_TIMEOUT_SECONDS)
        return server.start(description, self._memory_bytes)

    def limit_memory(self, memory_bytes: int) -> None:
        """Jobs that start from now on may not allocate more: they fail instead of taking it from others."""
        self._memory_bytes = memory_bytes

    def warm_up(self, entry: str, argument: str) -> None:
        """Says how jobs begin, so that it can be done before there is a job; again when that changes.

        Args:
            entry: ``module:function``, called as ``function(argument)``. What it does must not show in what a job does,
                but for its speed, and it runs no user code. If it raises, jobs start without.
            argument: some text, such as addresses.
        """
        with self._lock:
            self._warm_up = entry, argument
            self._tell_how_to_warm_up()

    def _tell_how_to_warm_up(self) -> None:
        if self._warm_up is not None:
            self._server.warm_up(*self._warm_up)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._server.close()


class _ForkServerProcess:
    def __init__(self, preload: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            # -P: a folder that somebody happens to be in has no say in what `import` finds.
            [sys.executable, "-P", "-m", "modyn.core.forkserver", str(theirs.fileno()), ",".join(preload)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # sets in user code have the same order in every job
            start_new_session=True,  # Ctrl-C in a terminal is for the server to handle
        )
        theirs.close()
        self._ready: Future[None] = Future()
        self._send_lock = threading.Lock()
        self._jobs: dict[int, _ForkedJob] = {}
        self._next_id = 0
        threading.Thread(target=self._listen, name="forkserver", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, timeout_seconds: float) -> None:
        try:
            self._ready.result(timeout_seconds)
        except FutureTimeoutError:
            raise UnavailableError(f"the process that starts jobs was not ready in {timeout_seconds:g} s") from None

    def complete(self, more: Sequence[str]) -> None:
        """Nothing but these modules is imported any more, from where this process imports: the identity of user code is
        found here."""
        self._tell({"preload": list(more), "path": [os.path.abspath(entry) for entry in sys.path]})

    def warm_up(self, entry: str, argument: str) -> None:
        """Jobs begin like this from now on; read as soon as the process is ready."""
        self._tell({"warm_up": entry, "argument": argument})

    def _tell(self, message: dict[str, object]) -> None:
        with self._send_lock, contextlib.suppress(OSError):  # gone, which the next job finds out
            self._control.send(json.dumps(message).encode())

    def start(self, description: JobDescription, memory_bytes: int | None) -> Job:
        description.stderr.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with self._send_lock:
            self._next_id += 1
            job = _ForkedJob(description, ours)
            self._jobs[self._next_id] = job
            request = {
                "id": self._next_id,
                "entry": description.entry,
                "stderr": str(description.stderr),
                "receives": description.receives,
                "fresh": description.fresh,
                "memory_bytes": memory_bytes,
            }
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
            except OSError as error:
                raise UnavailableError(f"the process that starts jobs is gone ({error}); try again") from error
            finally:
                theirs.close()
        job.send_description()
        return job

    def _listen(self) -> None:
        try:
            while message := self._control.recv(MAX_CONTROL_BYTES):
                self._dispatch(json.loads(message))
        except OSError:
            pass
        if not self._ready.done():
            self._ready.set_exception(UnavailableError("the process that starts jobs died while starting"))
        for job in list(self._jobs.values()):
            job.exited(None)

    def _dispatch(self, message: dict[str, int]) -> None:
        if "ready" in message:
            self._ready.set_result(None)
        elif "pid" in message:
            self._jobs[message["id"]].started(message["pid"])
        else:
            self._jobs.pop(message["id"]).exited(message["status"])

    def close(self) -> None:
        # While it still imports it has no children to kill, and would not notice for seconds.
        patience = 5 if self._ready.done() else 0
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # the fork server kills its children and ends
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._control.close()


class _ForkedJob(Job):
    def __init__(self, description: JobDescription, connection: socket.socket) -> None:
        self._description = description
        self._connection = connection
        self._pid: Future[int] = Future()
        self._status: Future[int | None] = Future()
        self._cancelled = False
        self._lock = threading.Lock()

    def send_description(self) -> None:
        # A job that dies at once shows in events(), not here.
        with contextlib.suppress(OSError):
            send_frame(self._connection, DESCRIPTION, self._description.payload)

    def started(self, pid: int) -> None:
        self._pid.set_result(pid)

    def exited(self, status: int | None) -> None:
        """Called by the listener: exit code, minus the signal if killed, None if the fork server is gone."""
        with self._lock:
            if not self._status.done():
                self._status.set_result(status)
            if not self._pid.done():
                self._pid.set_result(0)

    def events(self, *, until_gone: bool = True) -> Iterator[bytes]:
        outcome: tuple[bytes, bytes] | None = None
        with self._connection:
            while (frame := receive_frame(self._connection)) is not None:
                if frame[0] != EVENT:
                    outcome = frame
                    break
                yield frame[1]
        if not until_gone and outcome is not None and outcome[0] == DONE:
            return
        status = self._status.result()
        if self._cancelled:
            raise CancelledError(f"{self._description.what} was cancelled")
        if outcome is None or outcome[0] != DONE:
            raise self._error(outcome, status)

    def send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):
            send_frame(self._connection, MESSAGE, message)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def cancel(self) -> None:
        self._cancelled = True
        pid = self._pid.result(timeout=START_TIMEOUT_SECONDS)
        with self._lock:
            # Not reaped yet as far as we know; pids are not reused within the fork server's report delay.
            if not self._status.done() and pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _error(self, outcome: tuple[bytes, bytes] | None, status: int | None) -> Exception:
        what = self._description.what
        if outcome is not None and outcome[0] == FAILED:
            failure = json.loads(outcome[1])
            known = ERRORS_BY_NAME.get(failure["class"])
            if known is not None:
                return known(failure["message"])
            reason = f"{failure['class']}: {failure['message']}"
        elif status is not None and status < 0:
            name = signal.Signals(-status).name
            hint = "; out of memory, or killed from outside" if -status == signal.SIGKILL else ""
            reason = self.killed = f"its process was killed by {name}{hint}"
        else:
            reason = "its process ended without a result"
            self.killed = reason if status is None else None
        return JobFailedError(f"{what} failed: {reason}{self._stderr_tail()}")

    def _stderr_tail(self) -> str:
        path = self._description.stderr
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        if not lines:
            return f" (no output; {path})"
        tail = "\n".join(f"  {line}" for line in lines[-STDERR_TAIL_LINES:])
        return f"\nlast lines of its output ({path}):\n{tail}"
