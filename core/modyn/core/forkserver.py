"""The process that jobs are forked from: heavy libraries are imported once, a job then starts in ~15 ms.

Once it was told how jobs begin (``warm_up``), it keeps children that have begun already (:mod:`modyn.core.standby`),
and jobs start in ~2 ms.

Run as ``python -m modyn.core.forkserver CONTROL_FD MODULE,MODULE…``. It imports the modules, and those that the first
message names, says ``ready`` and then forks one child per request. It stays single-threaded, opens no channel and runs
no torch operation, because a child could not use what threads of its parent had locked. When its control socket closes
(the server stopped or died), it kills its children and ends. ``modyn.core.jobs`` is the other side.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from functools import partial
from typing import Any, NoReturn, cast

from modyn.core.framing import DONE, EVENT, FAILED, receive_frame, send_frame
from modyn.core.standby import PAUSE_SECONDS, Request, Standby, Standbys, stand_by

_PR_SET_PDEATHSIG = 1
MAX_CONTROL_BYTES = 64 << 10


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # Threads of a job that wait for each other must not spin: the server that feeds it needs the cores too (ten
    # times faster small steps when they are busy). Read when the OpenMP library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for module in filter(None, sys.argv[2].split(",")):
        importlib.import_module(module)
    more = control.recv(MAX_CONTROL_BYTES)
    if not more:  # the server stopped while we imported
        return
    message = json.loads(more)
    sys.path[:] = message["path"]
    for module in message["preload"]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # children share these pages; a collection would copy them
    try:
        control.send(json.dumps({"ready": True}).encode())
    except BrokenPipeError:
        return
    ForkServer(control).run()


def die_with_parent() -> None:
    """Linux: this process is killed when the thread that forked it dies; the fork server has only one. (The fork
    server itself watches its control socket instead: the thread that started it may well end before the server.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_memory(memory_bytes: int) -> None:
    """This process may not allocate more (heap and private mappings, used or not): allocations fail then. Address space
    as such is not limited, as GPU libraries reserve more of it than any machine has memory. What its parent's process
    had allocated before it forked counts too."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


class ForkServer:
    """Forks a child per request and reports how each ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # pid -> job id
        self._standbys = Standbys()
        self._selector = selectors.DefaultSelector()
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._wakeup_read.setblocking(False)
        self._wakeup_write.setblocking(False)

    def run(self) -> NoReturn:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write.fileno())
        self._selector.register(self._control, selectors.EVENT_READ, self._serve_request)
        self._selector.register(self._wakeup_read, selectors.EVENT_READ, self._reap)
        while True:
            for key, _ in self._selector.select(self._standbys.timeout()):
                if cast("socket.socket", key.fileobj).fileno() >= 0:  # else what came before has closed it
                    key.data()
            self._keep_standbys()

    def _serve_request(self) -> None:
        message, fds, _, _ = socket.recv_fds(self._control, MAX_CONTROL_BYTES, 1)
        if not message:
            self._end()
        fields = json.loads(message)
        if "warm_up" in fields:
            self._dismiss_standbys()  # they may know other addresses
            self._standbys.warm_up = (fields["warm_up"], fields["argument"])
            self._standbys.make_soon()
            return
        request = Request(fields, fds[0])
        if fields["fresh"]:
            self._fork_job(request)
        else:
            self._start(request)

    def _start(self, request: Request) -> None:
        """Makes a job of a standby that is ready or will be soon, or else of a process of its own."""
        while (standby := self._standbys.taker()) is not None:
            taken = standby.hand_over(request)
            self._dismiss(standby)
            if taken:
                self._started(request, standby.pid)
                return
        if not self._standbys.wait(request):
            self._fork_job(request)

    def _fork_job(self, request: Request) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_job(request)
        self._started(request, pid)

    def _started(self, request: Request, pid: int) -> None:
        os.close(request.fd)
        self._children[pid] = request.fields["id"]
        self._send({"id": request.fields["id"], "pid": pid})
        self._standbys.make_soon(PAUSE_SECONDS)

    def _become_job(self, request: Request | None, channel: socket.socket | None = None) -> NoReturn:
        """
        Args:
            request: the job; None: a standby waits for one on its channel.
        """
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            sys.dont_write_bytecode = (
                True  # of user code: it goes by whole seconds, and so may be older than the source
            )
            self._let_go()
            if channel is not None:
                assert self._standbys.warm_up is not None
                fields, fd = stand_by(channel, self._standbys.warm_up)
            else:
                assert request is not None
                fields, fd = request.fields, request.fd
            if fields["memory_bytes"] is not None:
                limit_memory(fields["memory_bytes"])
            connection = socket.socket(fileno=fd)
            status = run_job(connection, fields["entry"], fields["stderr"], receives=fields["receives"])
        finally:
            os._exit(status)  # no clean-up of what belongs to the parent

    def _let_go(self) -> None:
        """Closes, in a child, what belongs to the fork server: whoever waits for its end must see it."""
        self._selector.close()
        for handle in (self._control, self._wakeup_read, self._wakeup_write):
            handle.close()
        self._standbys.let_go()

    # --------------------------------------------------------------------------------------------- standbys

    def _keep_standbys(self) -> None:
        if (request := self._standbys.overdue()) is not None:
            self._give_up_making()
            self._fork_job(request)
        if self._standbys.is_idle():
            self._dismiss_standbys()
        if self._standbys.is_due():
            self._fork_standby()

    def _give_up_making(self) -> None:
        """One takes too long: another job should not wait for it too."""
        for standby in [standby for standby in self._standbys.there if not standby.warm]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(standby.pid, signal.SIGKILL)
            self._dismiss(standby)
        self._standbys.died()

    def _fork_standby(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become_job(None, theirs)
        theirs.close()
        standby = Standby(pid, ours)
        self._standbys.add(standby)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._heard_of, standby))

    def _heard_of(self, standby: Standby) -> None:
        if not standby.hear():
            self._dismiss(standby)
            self._standbys.died()
        if (request := self._standbys.waited()) is not None:
            self._start(request)

    def _dismiss(self, standby: Standby) -> None:
        self._selector.unregister(standby.channel)
        self._standbys.remove(standby)

    def _dismiss_standbys(self) -> None:
        for standby in list(self._standbys.there):
            self._dismiss(standby)
        if (request := self._standbys.waited()) is not None:
            self._start(request)

    # ------------------------------------------------------------------------------------------------- the end

    def _reap(self) -> None:
        self._wakeup_read.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._children.pop(pid, None)
            if job is not None:  # else it was a standby, which shows on its channel
                self._send({"id": job, "status": os.waitstatus_to_exitcode(status)})
                self._standbys.make_soon()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            self._end()

    def _end(self) -> NoReturn:
        """The server is gone. Children are still dying: an interpreter that winds down would complain of their
        signals, so there is no winding down."""
        for pid in [*self._children, *(standby.pid for standby in self._standbys.there)]:
            with contextlib.suppress(ProcessLookupError):  # a standby that died a moment ago
                os.kill(pid, signal.SIGKILL)
        os._exit(0)


def run_job(connection: socket.socket, entry: str, stderr_path: str, *, receives: bool) -> int:
    """The child's whole life: read the description, run the entry point, say how it ended."""
    output = os.open(stderr_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    try:
        frame = receive_frame(connection)
        if frame is None:
            return 1
        module, _, attribute = entry.partition(":")
        function = getattr(importlib.import_module(module), attribute)

        def emit(event: bytes) -> None:
            send_frame(connection, EVENT, event)

        def receive() -> bytes | None:
            message = receive_frame(connection)
            return None if message is None else message[1]

        if receives:
            function(frame[1], emit, receive)
        else:
            function(frame[1], emit)
        with contextlib.suppress(Exception):  # user code may have closed them
            sys.stdout.flush()  # whoever hears that it is done may look at what it has printed
            sys.stderr.flush()
        send_frame(connection, DONE, b"")
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its result
        traceback.print_exc()
        failure = {"class": type(error).__name__, "message": str(error)}
        sys.stderr.flush()
        send_frame(connection, FAILED, json.dumps(failure).encode())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    main()
