"""``modyn serve storage --replica``: a process that serves reads beside the one that writes."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modyn.client import Client
from modyn.client.server import Server
from modyn.core.errors import ConflictError, InvalidInputError, ModynError, NotFoundError
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import ModelChunk
from tests.client.processes import TIMEOUT_SECONDS, modyn, start_modyn

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"])
def catalog(request: pytest.FixtureRequest) -> list[str]:
    """The option that chooses the catalog."""
    return [] if request.param == "sqlite" else ["--catalog", request.getfixturevalue("postgres_url")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers of storage, each with its address; they are killed at the end, whatever happened."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[subprocess.Popen[str], str]:
        arguments = ["serve", "storage", "--state", "state", "--address", "127.0.0.1:0", *options]
        process = start_modyn(*arguments, cwd=tmp_path)
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving storage"), process.communicate()[1]
        return process, line.split()[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def rows(start: int, count: int) -> pa.Table:
    numbers = np.arange(start, start + count)
    return pa.table({"timestamp": numbers * 10, "label": numbers % 3, "x": numbers})


def test_a_replica_sees_at_once_what_the_writer_does(start: Start, catalog: list[str]) -> None:
    writing, writer = start(*catalog)
    _, replica = start("--replica", *catalog)
    with Client(replica) as reads:
        with Client(writer) as writes:
            writes.register_dataset("d")
            assert reads.dataset("d").num_samples == 0  # registered after the replica had started
            watching = reads.watch_dataset("d", 0)
            for number in range(5):
                writes.append("d", str(number), rows(10 * number, 10))
                assert reads.read_columns("d")["key"].to_pylist() == list(range(10 * number + 10))
            assert next(watching).keys.start == 0
            writes.set_labels("d", "fix", [7], [9])
            assert reads.read_columns("d", columns=["label"], keys=[7])["label"].to_pylist() == [9]
            writes.delete_samples("d", [0, 8])
            (batch,) = reads.read_samples("d", np.arange(10))
            assert batch.keys.tolist() == batch.columns["x"].to_pylist() == [1, 2, 3, 4, 5, 6, 7, 9]
            assert writes.compact("d").segments_after == reads.dataset("d").num_segments == 1
            described = reads.dataset("d")
            assert (described.read_only, described.num_deleted, described.num_deleted_stored) == (True, 2, 0)
            assert described.writer == writes.dataset("d").writer == writer_of(writing)
            assert reads.verify("d").damaged == []
            (batch,) = reads.read_samples("d", np.arange(10))
            assert batch.columns["x"].to_pylist() == [1, 2, 3, 4, 5, 6, 7, 9]
        watching.close()  # type: ignore[attr-defined]
        refuses_to_write(reads, writing)

        writing.kill()
        writing.communicate()
        assert reads.read_columns("d").num_rows == 48
        following, writer = start(*catalog)
        with Client(writer) as writes:
            assert writes.append("d", "4", rows(0, 10)).repeated_batch
            assert writes.append("d", "5", rows(50, 10)).keys.end == 60
        assert reads.read_columns("d").num_rows == 58
        assert reads.dataset("d").writer == writer_of(following)


def writer_of(process: subprocess.Popen[str]) -> str:
    return f"process {process.pid} on {os.uname().nodename}"


def refuses_to_write(reads: Client, writing: subprocess.Popen[str]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: reads.append("d", "new", rows(0, 1)),
        lambda: reads.set_labels("d", "new", [1], [1]),
        lambda: reads.delete_samples("d", [1]),
        lambda: reads.compact("d"),
        lambda: reads.ingest("d"),
    ]
    for call in calls:
        with pytest.raises(ConflictError, match=rf"only serves reads \(--replica\).*process {writing.pid} on"):
            call()
    for call in (
        lambda: reads.register_dataset("e"),
        lambda: reads._peers.storage.StoreModel(iter([ModelChunk(data=b"model")])),
    ):
        with pytest.raises(ConflictError, match=r"only serves reads \(--replica\)"):
            call()


def test_reads_of_a_replica_go_on_while_segments_are_compacted(state: StateDirectory) -> None:
    """A reader gets its samples, and no damage is seen, though the writer deletes the files it reads."""
    stopped, failures, rounds = threading.Event(), list[str](), list[int]()

    def read(reads: Client) -> None:
        while not stopped.is_set():
            try:
                keys = np.random.default_rng(0).permutation(reads.dataset("d").end_key)
                for batch in reads.read_samples("d", keys, batch_size=50):
                    assert batch.columns["x"].to_pylist() == batch.keys.tolist()
                failures.extend(reads.verify("d").damaged)
                rounds.append(len(keys))
            except (ModynError, AssertionError) as error:
                failures.append(str(error))

    with (
        served(state) as writer,
        served(state, replica=True) as replica,
        Client(writer.address) as writes,
        Client(replica.address) as reads,
    ):
        writes.register_dataset("d")
        thread = threading.Thread(target=read, args=(reads,))
        thread.start()
        for number in range(60):
            writes.append("d", str(number), rows(10 * number, 10))
            if number % 3 == 2:
                writes.compact("d")
        stopped.set()
        thread.join()
    assert failures == []
    assert rounds


def served(state: StateDirectory, **options: bool) -> Server:
    return Server(state, services=("storage",), address="127.0.0.1:0", allow_user_code=False, what="a test", **options)  # type: ignore[arg-type]


def test_a_replica_takes_no_lock(state: StateDirectory) -> None:
    with served(state, replica=True):
        assert state.holder("storage") is None
        with served(state), served(state, replica=True):
            pass


def test_a_replica_needs_a_state_directory_and_serves_storage_alone(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="a replica needs that of the service that writes"):
        served(StateDirectory(tmp_path / "none"), replica=True).start()
    with pytest.raises(InvalidInputError, match="a replica serves storage alone, not storage, selector"):
        Server(
            StateDirectory(tmp_path),
            services=("storage", "selector"),
            address="127.0.0.1:0",
            allow_user_code=False,
            what="a test",
            replica=True,
        )
    refused = modyn("serve", "storage", "selector", "--replica", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--replica is for storage alone" in " ".join(refused.stderr.replace("│", " ").split())
    assert modyn("serve", "storage", "--replica", "--address", "127.0.0.1:0", cwd=tmp_path).returncode == 2


def test_a_replica_ends_cleanly(start: Start) -> None:
    start()
    process, _ = start("--replica")
    process.terminate()
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, errors) == (0, "")
