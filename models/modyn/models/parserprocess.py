"""One process of a ``ParserPool`` (``workers.py``): how it starts, and what goes over its socket.

A process begins as a fork of the job if that has one thread yet (milliseconds), else as a new interpreter (``python -m
modyn.models.parserprocess FD``; seconds), because a fork would not survive what other threads have locked. It gets a
description, then a batch at a time: a frame of JSON followed by the batch's columns and keys as Arrow IPC streams. It
answers with a frame of JSON that names types and shapes, followed by the bytes of the tensors; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import encode_batch
from modyn.core.config.pipeline import DataSection
from modyn.core.draws import Draws
from modyn.core.errors import ERRORS_BY_NAME, JobFailedError, ModynError
from modyn.core.forkserver import die_with_parent
from modyn.models.decoding import Decoder

if TYPE_CHECKING:
    import torch

    from modyn.models.tensors import Tensors

_LENGTHS = struct.Struct("!QQ")  # bytes of JSON, bytes of what follows it
PATIENCE_SECONDS = 1.0
"""For processes to end by themselves once their sockets are closed."""


class _Process(Protocol):
    """What a child is, however it was started."""

    def wait(self, timeout: float | None) -> int:
        """Its exit code, minus the signal if it was killed. Raises subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """Ends it at once."""


class ParserProcess:
    """A child that parses batches, one at a time.

    Args:
        data: how.
        root: folder that user code may be imported from, or None.
        threads: of torch in the child.
    """

    def __init__(self, data: DataSection, root: str | None, threads: int) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = _forked(theirs) if _num_threads() == 1 else _spawned(theirs)
        description = {
            "data": data.model_dump(mode="json", exclude={"source"}),
            "root": root,
            "threads": threads,
        }
        with contextlib.suppress(OSError):  # a child that died at once shows in parse()
            _send(self._connection, description)

    def parse(self, columns: Mapping[str, pa.Array], draws: Draws, batch: int) -> Tensors:
        """What :meth:`Decoder.inputs` gives there.

        Raises:
            ModynError: what parsing raised.
            JobFailedError: the process died.
        """
        head = {"seed": draws.seed, "trigger": draws.trigger, "epoch": draws.epoch, "batch": batch, "count": len(draws)}
        rows = encode_batch(pa.RecordBatch.from_arrays(list(columns.values()), list(columns)))
        tensors = None
        with contextlib.suppress(OSError):  # it is gone
            _send(self._connection, head, np.ascontiguousarray(draws.keys, dtype=np.int64).tobytes(), rows)
            tensors = _receive_tensors(self._connection)
        if tensors is not None:
            return tensors
        raise JobFailedError(f"a process that parses samples (training.dataloader_workers) {self._how_it_ended()}")

    def hang_up(self) -> None:
        """Tells the process to end; waiting parse() calls raise."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self, patience_seconds: float) -> None:
        """Ends the process, which was told to, and waits for its end."""
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:  # in user code that takes long
            self._process.kill()
            self._process.wait(None)
        self._connection.close()

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its socket; it may do so in user code that closes files that are not its own"
        if status < 0:
            hint = "; out of memory, or killed from outside" if -status == signal.SIGKILL else ""
            return f"was killed by {signal.Signals(-status).name} (signal {-status}){hint}"
        return f"ended with exit code {status}; user code must not end the process"


# ------------------------------------------------------------------------------------------------------- starting


def _num_threads() -> int:
    """Of this process, those of libraries included; 2 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 2


class _Forked:
    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None
        self._lock = threading.Lock()  # a pid means this child only until its end was taken notice of

    def wait(self, timeout: float | None) -> int:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (status := self._ended()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("parser process", timeout or 0.0)
            time.sleep(0.002)
        return status

    def kill(self) -> None:
        with self._lock:
            if self._status is None:
                os.kill(self._pid, signal.SIGKILL)

    def _ended(self) -> int | None:
        with self._lock:
            if self._status is None:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
                self._status = os.waitstatus_to_exitcode(status) if pid else None
            return self._status


def _forked(theirs: socket.socket) -> _Process:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return _Forked(pid)
    status = 1
    try:
        die_with_parent()  # the only thread of the job is the one that forks
        # Whoever waits for the job's connections to close must not wait for this process, too.
        os.closerange(3, theirs.fileno())
        os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        status = serve(theirs)
    finally:
        os._exit(status)  # no clean-up of what belongs to the parent


def _spawned(theirs: socket.socket) -> _Process:
    # A child is told to die with the thread that started it, which must be one that lasts.
    lasting = threading.current_thread() is threading.main_thread()
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "modyn.models.parserprocess", str(theirs.fileno()), "die" if lasting else "stay"],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONHASHSEED": "0"},  # as jobs have: sets in user code have one order
    )


# ---------------------------------------------------------------------------------------------------- in the child


def main() -> NoReturn:
    if sys.argv[2] == "die":
        die_with_parent()
    os._exit(serve(socket.socket(fileno=int(sys.argv[1]))))


def serve(connection: socket.socket) -> int:
    """The child's whole life: parses what comes until the other side closes; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which ends this process
    sys.dont_write_bytecode = True  # of user code: it goes by whole seconds, and so may be older than the source
    try:
        if (description := _receive(connection)) is None:
            return 0
        decode = _decoder(description[0])
        while (request := _receive(connection)) is not None:
            head, body = request
            try:
                tensors = decode(head, body)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller raises it
                if not isinstance(error, ModynError):
                    traceback.print_exc()
                _send(connection, {"error": type(error).__name__, "message": str(error)})
            else:
                _send_tensors(connection, tensors)
            sys.stdout.flush()  # what user code printed
    except (BrokenPipeError, ConnectionResetError):  # the job is gone
        return 0
    return 0


def _decoder(description: dict[str, Any]) -> Callable[[dict[str, Any], memoryview], Tensors]:
    """Parses one request. User code that cannot be loaded is what each request raises."""
    import torch

    # As in the job: what user code computes may depend on these in its last bits.
    torch.set_num_threads(description["threads"])
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # only finds bugs
    loaded: Decoder | ModynError
    try:
        loaded = Decoder(DataSection.model_validate(description["data"]), description["root"])
    except ModynError as error:
        loaded = error

    def parse(head: dict[str, Any], body: memoryview) -> Tensors:
        if isinstance(loaded, ModynError):
            raise loaded
        size = 8 * head["count"]
        keys = np.frombuffer(body[:size], dtype=np.int64)
        batch = pa.ipc.open_stream(pa.py_buffer(body[size:])).read_next_batch()
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        return loaded.inputs(columns, Draws(head["seed"], head["trigger"], head["epoch"], keys), head["batch"])

    return parse


# ------------------------------------------------------------------------------------------------------ on the wire


def _send(connection: socket.socket, head: Mapping[str, Any], *parts: bytes | memoryview) -> None:
    text = json.dumps(head).encode()
    connection.sendall(_LENGTHS.pack(len(text), sum(len(part) for part in parts)) + text)
    for part in parts:
        connection.sendall(part)


def _send_tensors(connection: socket.socket, tensors: Tensors) -> None:
    """Their names (None: there is only one), types and shapes, then their bytes."""
    named = list(tensors.items()) if isinstance(tensors, dict) else [(None, tensors)]
    specs = [(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)) for name, tensor in named]
    _send(connection, {"tensors": specs}, *(_bytes_of(tensor.detach().contiguous()) for _, tensor in named))


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    flat: npt.NDArray[np.uint8] = tensor.flatten().view(torch.uint8).numpy()
    return flat.data


def _receive_tensors(connection: socket.socket) -> Tensors | None:
    """What :func:`_send_tensors` sent; None if the other side is gone.

    Raises:
        ModynError: it sent an error instead.
    """
    import torch

    if (lengths := _receive_head(connection)) is None:
        return None
    head, _ = lengths
    if "error" in head:
        raise ERRORS_BY_NAME.get(head["error"], JobFailedError)(head["message"])
    tensors: dict[str | None, torch.Tensor] = {}
    for name, dtype, shape in head["tensors"]:
        tensor = tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype))
        if not _receive_into(connection, _bytes_of(tensor)):
            return None
    return tensors[None] if None in tensors else {str(name): tensor for name, tensor in tensors.items()}


def _receive(connection: socket.socket) -> tuple[dict[str, Any], memoryview] | None:
    """A frame: its JSON and what follows; None if the other side is gone."""
    if (lengths := _receive_head(connection)) is None:
        return None
    head, length = lengths
    body = memoryview(bytearray(length))
    return (head, body) if _receive_into(connection, body) else None


def _receive_head(connection: socket.socket) -> tuple[dict[str, Any], int] | None:
    """The JSON of a frame, and the number of bytes that follow."""
    lengths = memoryview(bytearray(_LENGTHS.size))
    if not _receive_into(connection, lengths):
        return None
    size, length = _LENGTHS.unpack(lengths)
    text = memoryview(bytearray(size))
    return (json.loads(text.tobytes()), length) if _receive_into(connection, text) else None


def _receive_into(connection: socket.socket, target: memoryview) -> bool:
    """Fills the target; False if the other side is gone."""
    while target:
        try:
            count = connection.recv_into(target)
        except ConnectionResetError:
            return False
        if not count:
            return False
        target = target[count:]
    return True


if __name__ == "__main__":
    main()
