"""The process that jobs are forked from: heavy libraries are imported once, a job then starts in ~15 ms.

Run as ``python -m modyn.core.forkserver CONTROL_FD MODULE,MODULE…``. It imports the modules, says ``ready`` and
then forks one child per request. It stays single-threaded, opens no channel and runs no torch operation, because
a child could not use what threads of its parent had locked. When its control socket closes (the server stopped
or died), it kills its children and ends. ``modyn.core.jobs`` is the other side.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from modyn.core.framing import DONE, EVENT, FAILED, receive_frame, send_frame

_PR_SET_PDEATHSIG = 1
MAX_CONTROL_BYTES = 64 << 10


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # Threads of a job that wait for each other must not spin: the server that feeds it needs the cores too (ten
    # times faster small steps when they are busy). Read when the OpenMP library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for module in filter(None, sys.argv[2].split(",")):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # children share these pages; a collection would copy them
    try:
        control.send(json.dumps({"ready": True}).encode())
    except BrokenPipeError:  # the server stopped while we imported
        return
    ForkServer(control).run()


def die_with_parent() -> None:
    """Linux: this process is killed when the thread that forked it dies; the fork server has only one. (The fork
    server itself watches its control socket instead: the thread that started it may well end before the server.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ForkServer:
    """Forks a child per request and reports how each ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # pid -> job id
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._wakeup_read.setblocking(False)
        self._wakeup_write.setblocking(False)

    def run(self) -> NoReturn:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write.fileno())
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._wakeup_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._wakeup_read:
                    self._wakeup_read.recv(4096)
                    self._reap()
                elif not self._serve_request():
                    self._end()

    def _serve_request(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, MAX_CONTROL_BYTES, 1)
        if not message:
            return False
        request = json.loads(message)
        pid = os.fork()
        if pid == 0:
            self._become_job(request, fds[0])
        os.close(fds[0])
        self._children[pid] = request["id"]
        self._send({"id": request["id"], "pid": pid})
        return True

    def _become_job(self, request: dict[str, Any], fd: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            sys.dont_write_bytecode = (
                True  # of user code: it goes by whole seconds, and so may be older than the source
            )
            for handle in (self._control, self._wakeup_read, self._wakeup_write):
                handle.close()
            status = run_job(
                socket.socket(fileno=fd), request["entry"], request["stderr"], receives=request["receives"]
            )
        finally:
            os._exit(status)  # no clean-up of what belongs to the parent

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._send({"id": self._children.pop(pid), "status": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            self._end()

    def _end(self) -> NoReturn:
        """The server is gone. Children are still dying: an interpreter that winds down would complain of their
        signals, so there is no winding down."""
        for pid in self._children:
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
