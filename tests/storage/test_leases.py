"""One process writes to a dataset; others serve reads and follow it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.core.catalog import Catalog
from modyn.core.errors import ConflictError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import ReadColumnsRequest, WatchDatasetRequest
from modyn.storage import leases
from modyn.storage.catalog import StorageCatalog
from modyn.storage.leases import Leases
from modyn.storage.reader import read_columns, read_samples
from tests.storage.support import NAME, StorageServer, interval

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """A storage process beside this one."""

    def __init__(self, state: StateDirectory, url: str, lease_seconds: float) -> None:
        command = [sys.executable, "-m", "tests.storage.lease_child", str(state.path), url, str(lease_seconds)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, batch_id: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batch_id}\n")

    def append(self, batch_id: str) -> str:
        self.send(batch_id)
        return self.answer()

    def kill(self) -> None:
        """It is a zombie then, as nobody asks for its exit status."""
        self.process.kill()
        while leases._start_time(self.process.pid):
            time.sleep(0.01)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


Start = Callable[..., Child]


@pytest.fixture
def url(any_catalog: Catalog) -> str:
    return any_catalog.url.render_as_string(hide_password=False)


@pytest.fixture
def child(state: StateDirectory, url: str) -> Iterator[Start]:
    children: list[Child] = []

    def start(lease_seconds: float = 15.0) -> Child:
        children.append(Child(state, url, lease_seconds))
        return children[-1]

    yield start
    for each in children:
        each.close()


@pytest.fixture
def here(state: StateDirectory, url: str) -> Iterator[StorageServer]:
    server = StorageServer(state, url)
    server.register()
    yield server
    server.stop()


def test_there_is_one_writer_and_it_is_named(here: StorageServer, child: Start) -> None:
    other = child()
    assert other.append("a") == "appended 0 1"
    with pytest.raises(ConflictError, match=f"is being written by process {other.process.pid} on "):
        here.append("b", {"x": [2.0]})
    for call in (lambda: here.delete([0]), lambda: here.set_labels("l", {"key": [0], "label": [1]}), here.compact):
        with pytest.raises(ConflictError, match="a dataset has one writer"):
            call()
    assert other.append("c") == "appended 1 2"
    described = here.describe()
    assert (described.end_key, described.writer) == (2, f"process {other.process.pid} on {os.uname().nodename}")
    batch = next(read_samples(here.stub, NAME, KeySet.from_array([1, 0]), batch_size=2))
    assert batch.columns["x"].to_pylist() == [1.0, 1.0], "who does not write follows the writer"
    other.kill()
    assert here.append("b", {"x": [2.0]}) == (KeyRange(2, 3), False), "a dead process of this machine does not count"
    late = child()
    assert late.append("d").startswith(f"ConflictError 3 dataset 'stream' is being written by process {os.getpid()} ")
    here.service.close()
    assert late.append("d") == "appended 3 4", "a lease is given back at the end"


def test_a_lost_lease_is_taken_when_it_has_run_out(
    here: StorageServer, child: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the writer is on another machine, which cannot be asked whether it is dead."""
    monkeypatch.setattr(leases, "_is_gone", lambda holder: False)
    other = child(lease_seconds=1.5)
    assert other.append("a") == "appended 0 1"
    time.sleep(1.8)
    with pytest.raises(ConflictError, match="is being written"):
        here.append("b", {"x": [2.0]})
    other.kill()
    started = time.monotonic()
    while True:
        try:
            here.append("b", {"x": [2.0]})
            break
        except ConflictError:
            assert time.monotonic() - started < 5
            time.sleep(0.05)
    assert time.monotonic() - started > 0.5
    assert here.describe().end_key == 2


def test_who_was_paused_for_too_long_changes_nothing(here: StorageServer, child: Start, state: StateDirectory) -> None:
    other = child(lease_seconds=0.5)
    assert other.append("a") == "appended 0 1"
    other.process.send_signal(signal.SIGSTOP)
    other.send("late")
    time.sleep(0.8)
    assert here.append("b", {"x": [2.0]}) == (KeyRange(1, 2), False)
    [folder] = (path for path in (state.path / "datasets").glob("*/segments"))
    other.process.send_signal(signal.SIGCONT)
    answer = other.answer()
    assert answer.startswith("ConflictError 2 "), "it sees what was written meanwhile"
    assert "taken over" in answer or f"process {os.getpid()}" in answer
    assert other.append("again").startswith("ConflictError 2 ")
    assert len(list(folder.iterdir())) == 2
    assert here.append("c", {"x": [2.0]}) == (KeyRange(2, 3), False)
    here.service.close()
    assert other.append("late") == "appended 3 4"
    assert here.verify() == []


def test_a_replica_serves_reads_and_follows(here: StorageServer, state: StateDirectory, url: str) -> None:
    replica = StorageServer(state, url, read_only=True)
    try:
        here.append("a", {"x": np.arange(5.0), "label": np.arange(5), "timestamp": np.arange(5)})
        assert replica.describe().read_only
        with pytest.raises(ConflictError, match=r"only serves reads \(--replica\).*process \d+ on "):
            replica.append("b", {"x": [1.0]})
        with pytest.raises(ConflictError, match="cannot be registered"):
            replica.register(name="another")
        arrived: list[tuple[int, int]] = []
        stream = replica.stub.WatchDataset(WatchDatasetRequest(dataset=NAME, cursor=0))

        def watch() -> None:
            for message in stream:
                arrived.append((message.keys.start, message.keys.end))
                if message.keys.end >= 6:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        here.set_labels("l", {"key": [1, 2], "label": [7, 8]})
        here.delete([3])
        here.compact()
        here.append("b", {"x": [5.0], "label": [5], "timestamp": [5]})
        found = read_columns(replica.stub, NAME, interval(), columns=[ReadColumnsRequest.LABEL]).to_pydict()
        assert found == {"key": [0, 1, 2, 4, 5], "label": [0, 7, 8, 4, 5]}
        batch = next(read_samples(replica.stub, NAME, KeySet.from_array([5, 3, 1]), batch_size=3))
        assert (batch.keys.tolist(), batch.columns["x"].to_pylist()) == ([5, 1], [5.0, 1.0])
        watcher.join(10)
        assert arrived[-1][1] == 6
        here.register(name="another")
        assert replica.describe("another").end_key == 0
        assert replica.verify() == []
    finally:
        replica.stop()


def test_two_writers_take_turns_without_loss(here: StorageServer, state: StateDirectory, url: str) -> None:
    """Both have files in view that the other has ingested."""
    folder = state.path.parent / "source"
    folder.mkdir()
    source = {"format": "csv", "path": str(folder), "settle_seconds": 0}
    here.register(source, "files")
    other = StorageServer(state, url)
    servers = [here, other]
    try:
        for number in range(6):
            (folder / f"{number}.csv").write_text(f"x\n{number}\n")
            writer, reader = servers[number % 2], servers[1 - number % 2]
            assert writer.ingest("files").end_key == number + 1
            with pytest.raises(ConflictError):
                reader.append("x", {"x": [1]}, "files")
            assert reader.ingest("files").end_key == number + 1, "there is nothing to do"
            held = writer.service._datasets.leases
            held._held.clear()
            held._catalog.drop_leases(held.holder)
    finally:
        other.stop()
    assert here.describe("files").num_samples == 6


def test_holders_of_this_machine_are_known_to_be_gone(any_catalog: Catalog) -> None:
    catalog = StorageCatalog(any_catalog)
    row = catalog.add_dataset(NAME, "f" * 32, None, 1)
    first, second = Leases(catalog), Leases(catalog)
    assert first.hold(row.id, NAME)
    assert not first.hold(row.id, NAME), "it is known already"
    with pytest.raises(ConflictError, match="is being written by"):
        second.hold(row.id, NAME)
    first.close()
    assert second.hold(row.id, NAME)
    assert not leases._is_gone(second.holder)
    for unknown in ("other:1/1/1/x", "no holder"):
        assert not leases._is_gone(unknown)
    assert leases._is_gone(f"{leases._machine()}/{2**22 + 1}/17/x")
    second.close()
