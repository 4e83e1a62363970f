"""A storage server in a process of its own, started the way users do."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modyn.client import Client
from modyn.core.rpc import connect
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import IngestProgress, IngestRequest
from modyn.proto.storage_pb2_grpc import StorageStub

START_SECONDS = 60.0


class StorageProcess:
    """``modyn serve storage`` on a state directory, with a client; can be restarted.

    Args:
        folder: of the state directory; it stays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Returns once the server answers."""
        command = [sys.executable, "-m", "modyn.client.cli", "serve", "storage", "--address", "127.0.0.1:0"]
        self._process = subprocess.Popen([*command, "--state", str(self.folder)], stdout=subprocess.DEVNULL)
        address = self._address()
        self.client = Client(address)
        self._channel = connect(address)
        self.stub = StorageStub(self._channel)
        """What :mod:`modyn.storage.reader` speaks to."""
        self.client.datasets()

    def stop(self) -> None:
        """Returns once it is gone."""
        self.client.close()
        self._channel.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def ingest(self, dataset: str) -> IngestProgress:
        """Ingests every file of a dataset's source; returns when all samples are durable and visible."""
        return list(self.stub.Ingest(IngestRequest(dataset=dataset)))[-1]

    def memory(self, field: str = "VmHWM") -> float:
        """Memory of the server in GiB; by default its peak, pages of mapped files included."""
        return memory_of(self._process.pid, field)

    def _address(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the storage server ended with status {self._process.returncode}")
            holder = StateDirectory(self.folder).holder("storage")
            if holder is not None and holder.pid == self._process.pid and holder.address is not None:
                return holder.address
            time.sleep(0.02)
        self._process.kill()
        raise RuntimeError(f"the storage server did not start within {START_SECONDS:.0f} s")


def memory_of(pid: int | str, field: str = "VmHWM") -> float:
    """A memory figure of a process in GiB, as ``/proc/PID/status`` has it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 2**20
    raise KeyError(field)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder on disk that is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="modyn-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def storage_process(folder: Path) -> Iterator[StorageProcess]:
    """A server that is stopped at the end."""
    server = StorageProcess(folder)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.stop()
