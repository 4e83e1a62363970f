"""Faults of what storage stands on: full disks, a database that goes and comes back, files that change or vanish."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modyn.core.errors import ConflictError, CorruptDataError, ModynError, UnavailableError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import ReadColumnsRequest
from modyn.storage.reader import read_columns, read_samples
from tests.postgres import running_postgres
from tests.storage.support import NAME, StorageServer, eventually, interval

Column = ReadColumnsRequest.Column

# ----------------------------------------------------------------------------------------------------- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)


@contextmanager
def full(disk: Path, left: int) -> Iterator[None]:
    """Leaves ``left`` bytes of the disk."""
    ballast = disk / "ballast"
    stats = os.statvfs(disk)
    # The server may write meanwhile; then the disk is full a little earlier.
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        file.write(b"\0" * max(0, stats.f_bavail * stats.f_bsize - left))
    yield
    ballast.unlink()


class Work:
    """Samples in a dataset with files and batches, and every way to change it."""

    def __init__(self, storage: StorageServer, folder: Path, kind: str) -> None:
        self.storage, self.folder, self.kind = storage, folder, kind
        source = {"format": kind, "path": str(folder), "settle_seconds": 0}
        source |= {"timestamp": "t", "label": "y"} if kind == "csv" else {"record_size": 9, "label_size": 1}
        storage.register(source)
        self.expected: list[int] = []
        self.num_files = self.num_batches = self.num_labels = 0
        self.labels: dict[int, int] = {}
        self.gone: set[int] = set()

    def new_file(self, size: int = 2000) -> None:
        values = range(len(self.expected), len(self.expected) + size)
        name = f"{self.num_files}.{'csv' if self.kind == 'csv' else 'bin'}"
        if self.kind == "csv":
            text = "payload,y,t\n" + "".join(f"{value},{value % 5},{self.num_files}\n" for value in values)
            (self.folder / name).write_text(text)
        else:
            data = b"".join(bytes([value % 5]) + value.to_bytes(8, "little") for value in values)
            (self.folder / name).write_bytes(data)
        self.num_files += 1

    def ingest(self) -> None:
        self.storage.ingest()
        self.expected = list(range(self.storage.describe().end_key))

    def append(self) -> None:
        first = len(self.expected)
        values = np.arange(first, first + 2000)
        payload: Any = values
        if self.kind != "csv":
            payload = pa.array([value.to_bytes(8, "little") for value in values.tolist()], pa.binary(8))
        columns = {"payload": payload, "label": values % 5, "timestamp": np.zeros(2000, dtype=np.int64)}
        keys, _ = self.storage.append(f"b{self.num_batches}", columns)
        assert keys == KeyRange(first, first + 2000)
        self.num_batches += 1
        self.expected += values.tolist()

    def label(self) -> None:
        keys = list(range(0, len(self.expected), 2))
        late = {"key": keys, "label": [9] * len(keys), "label_time": [2**40] * len(keys)}
        self.storage.set_labels(f"l{self.num_labels}", late)
        self.num_labels += 1
        self.labels |= dict.fromkeys(keys, 9)

    def delete(self) -> None:
        key = next(key for key in range(len(self.expected)) if key not in self.gone)
        self.storage.delete([key])
        self.gone.add(key)

    def compact(self) -> None:
        self.storage.compact()

    def check(self) -> None:
        keys = KeySet.from_array(np.random.default_rng(0).permutation(len(self.expected)))
        batches = list(read_samples(self.storage.stub, NAME, keys, batch_size=10_000))
        payload = [value for batch in batches for value in batch.columns["payload"].to_pylist()]
        values = [value if self.kind == "csv" else int.from_bytes(value, "little") for value in payload]
        found = dict(zip((key for batch in batches for key in batch.keys.tolist()), values, strict=True))
        assert found == {key: key for key in self.expected if key not in self.gone}
        table = read_columns(self.storage.stub, NAME, interval(), columns=[Column.LABEL])
        labels = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
        assert labels == {key: self.labels.get(key, key % 5) for key in found}
        assert self.storage.verify() == []
        dataset = self.storage.service._datasets.get(NAME)
        folders = (dataset.segments_folder, dataset.scans_folder, dataset.labels_folder, dataset.deletions_folder)
        # A call that was just answered may hold its snapshot a moment longer; one that failed, until the frames in its
        # traceback are collected.
        eventually(lambda: gc.collect() >= 0 and not dataset.remove_retired())
        assert {path.name for folder in folders for path in folder.iterdir()} == dataset.file_names()


def _refusal(act: Callable[[], None]) -> UnavailableError | None:
    try:
        act()
    except UnavailableError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("left", "kind"),
    [
        (0, "csv"),
        pytest.param(0, "binary", marks=pytest.mark.slow),
        pytest.param(20_000, "csv", marks=pytest.mark.slow),
        (20_000, "binary"),
        pytest.param(50_000, "csv", marks=pytest.mark.slow),
        pytest.param(50_000, "binary", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_said_and_survived(small_disk: Path, folder: Path, kind: str, left: int) -> None:
    """With the catalog on it; nothing is lost or half-written, and all goes on when there is space again."""
    storage = StorageServer(StateDirectory(small_disk / "state").create())
    work = Work(storage, folder, kind)
    work.new_file()
    work.ingest()
    work.append()
    refused = 0
    for act in (work.append, work.ingest, work.label, work.delete, work.compact):
        if act == work.ingest:
            work.new_file()
        with full(small_disk, left):
            error = _refusal(act)
            work.check()
        if error is not None:
            refused += 1
            assert "disk" in error.message, "it says what to do"
            act()
        work.check()
    assert refused >= (3 if left == 0 else 1)
    storage.restart()
    work.check()
    storage.stop()


def test_failing_writes_are_survived_wherever_they_happen(
    storage: StorageServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every single write and flush of every kind of change fails once."""
    work = Work(storage, folder, "csv")
    work.new_file(300)
    work.ingest()
    work.append()
    failures = 0
    for name in ("write", "fsync"):
        original = getattr(os, name)
        for act in (work.append, work.ingest, work.label, work.delete, work.compact):
            if act == work.ingest:
                work.new_file(300)
            for number in range(100):
                calls = [number]

                def fail(*args: Any, calls: list[int] = calls, original: Callable[..., Any] = original) -> Any:
                    calls[0] -= 1
                    if calls[0] < 0 and calls[0] > -2:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return original(*args)

                monkeypatch.setattr(os, name, fail)
                try:
                    act()
                    break
                except UnavailableError:
                    failures += 1
                finally:
                    monkeypatch.setattr(os, name, original)
            else:
                raise AssertionError(f"{act.__name__} fails for ever")
            work.check()
    assert failures > 15


# ------------------------------------------------------------------------------------------------------ database


class Postgres:
    """A server that can be stopped and started."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        self._pid_file = Path(row[0]) / "postmaster.pid"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def _pid(self) -> int:
        return int(self._pid_file.read_text().split()[0])

    def stop(self) -> None:
        self._command = Path(f"/proc/{self._pid}/cmdline").read_bytes().split(b"\0")[:-1]
        self._user = self._pid_file.stat().st_uid
        os.kill(self._pid, signal.SIGINT)
        deadline = time.monotonic() + 20
        while self._pid_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def start(self) -> None:
        # setpriv and not Popen(user=...): with a user Python forks where it would vfork, gRPC's fork handlers then run
        # in the child, and some of those children never get to the program.
        home = self._pid_file.parent.stat()
        become = [f"--reuid={self._user}", f"--regid={home.st_gid}", "--clear-groups"]
        child = subprocess.Popen(["setpriv", *become, *self._command] if os.geteuid() == 0 else self._command)
        self._children.append(child)
        deadline = time.monotonic() + 60
        while True:
            assert child.poll() is None, f"PostgreSQL ended with exit code {child.returncode}"
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.05)

    def close(self) -> None:
        for child in self._children:
            child.send_signal(signal.SIGINT)
            child.wait()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with running_postgres() as url:
        if url is None:
            pytest.skip("PostgreSQL server binaries (initdb, postgres) are not installed")
        server = Postgres(url)
        try:
            yield server
        finally:
            server.close()


def test_a_database_that_goes_and_comes_back(state: StateDirectory, folder: Path, postgres: Postgres) -> None:
    storage = StorageServer(state, postgres.url)
    work = Work(storage, folder, "csv")
    work.new_file()
    work.ingest()
    work.append()
    work.label()
    for again in (False, True):  # then there is nothing to compact
        postgres.stop()
        keys = KeySet.from_array([5, 2001, 100])
        batch = next(read_samples(storage.stub, NAME, keys, batch_size=3))
        assert batch.columns["payload"].to_pylist() == [5, 2001, 100], "reads go on"
        assert read_columns(storage.stub, NAME, interval()).num_rows == len(work.expected) - len(work.gone)
        work.new_file()
        for act in (work.append, work.label, work.delete, work.ingest, *([] if again else [work.compact])):
            with pytest.raises(UnavailableError, match=r"the catalog at postgresql.*check that the database runs"):
                act()
        postgres.start()
        work.ingest()
        work.check()
        for act in (work.append, work.delete, work.label, work.compact):
            act()
        work.check()
    storage.restart()
    work.check()
    postgres.stop()
    storage.stop()  # also without a database
    postgres.start()
    storage.start()
    work.check()
    storage.stop()


def test_an_append_whose_answer_was_lost_with_the_database(
    state: StateDirectory, folder: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database ends its connections while batches are being committed from many threads."""
    storage = StorageServer(state, postgres.url)
    storage.register()
    answers: dict[str, KeyRange] = {}

    def call(caller: int) -> None:
        for number in range(12):
            batch_id = f"{caller}-{number}"
            while batch_id not in answers:
                try:
                    keys, _ = storage.append(batch_id, {"x": [caller * 1000 + number] * 3})
                    answers[batch_id] = keys
                except (UnavailableError, ConflictError):
                    time.sleep(0.01)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(4)]
    for thread in threads:
        thread.start()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        while any(thread.is_alive() for thread in threads):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            time.sleep(0.02)
    assert storage.describe().end_key == 4 * 12 * 3
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(144)), batch_size=144))
    values = batch.columns["x"].to_pylist()
    for batch_id, keys in answers.items():
        caller, number = map(int, batch_id.split("-"))
        assert values[keys.start : keys.end] == [caller * 1000 + number] * 3
        assert storage.append(batch_id, {"x": [0] * 3}) == (keys, True)
    assert storage.verify() == []
    storage.stop()


# --------------------------------------------------------------------------------------------------------- files


def records(first: int, count: int) -> bytes:
    return b"".join((first + row).to_bytes(8, "little") for row in range(count))


def place(storage: StorageServer, folder: Path) -> None:
    storage.register({"format": "binary", "path": str(folder), "record_size": 8, "settle_seconds": 0})
    for number in range(3):
        settle_file(folder / f"{number}.bin", records(number * 100, 100))
    storage.ingest()
    assert storage.describe().num_in_place == 300


def settle_file(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(data)
    temporary.rename(path)


def values(storage: StorageServer, keys: list[int], local: bool | None = False) -> list[int]:
    found = read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=1000, local=local)
    return [int.from_bytes(value, "little") for batch in found for value in batch.columns["payload"].to_pylist()]


@pytest.mark.parametrize("local", [False, None])
@pytest.mark.parametrize("how", ["deleted", "renamed over"])
def test_files_that_are_replaced_leave_their_samples_readable(
    storage: StorageServer, folder: Path, how: str, local: bool | None
) -> None:
    place(storage, folder)
    keys = [250, 105, 0, 199]
    if how == "deleted":
        (folder / "1.bin").unlink()
    else:
        settle_file(folder / "1.bin", records(1000, 50))
    for restarted in (False, True):
        assert values(storage, keys, local) == keys
        storage.ingest()
        if restarted:
            break
        storage.restart()
    described = storage.describe()
    if how == "deleted":
        assert (described.num_samples, described.num_superseded) == (300, 0)
    else:
        assert (described.num_samples, described.num_superseded, described.end_key) == (250, 100, 350)
        assert values(storage, [300, 349], local) == [1000, 1049]
    assert values(storage, keys, local) == keys
    assert storage.verify() == []


@pytest.mark.parametrize("local", [False, None])
@pytest.mark.parametrize("how", ["overwritten", "truncated", "emptied", "grown"])
def test_files_changed_in_place_are_said_to_be(
    storage: StorageServer, folder: Path, how: str, local: bool | None
) -> None:
    place(storage, folder)
    assert values(storage, [105, 5], local) == [105, 5], "the file is in memory now"
    path = folder / "1.bin"
    with path.open("r+b") as file:
        if how == "overwritten":
            file.write(records(1000, 100))
        elif how == "grown":
            file.seek(0, os.SEEK_END)
            file.write(records(1000, 10))
        else:
            file.truncate(0 if how == "emptied" else 80)
    for restarted in (False, True):
        with pytest.raises(CorruptDataError, match="was changed in place after it was ingested"):
            values(storage, [105], local)
        assert values(storage, [5, 250], local) == [5, 250], "other files are read as before"
        assert any("changed in place" in text or "1.bin" in text or "not those" in text for text in storage.verify())
        if not restarted:
            storage.restart()
    storage.ingest()
    described = storage.describe()
    new = {"overwritten": 100, "truncated": 10, "emptied": 0, "grown": 110}[how]
    assert (described.end_key, described.num_superseded, described.num_samples) == (300 + new, 100, 200 + new)
    live = read_columns(storage.stub, NAME, interval())["key"].to_pylist()
    assert live == [*range(100), *range(200, 300 + new)]
    assert len(values(storage, live, local)) == 200 + new


def test_compaction_goes_round_a_file_that_was_changed(storage: StorageServer, folder: Path) -> None:
    """Deleted samples of its segment wait until the file is put back; the others' bytes are removed."""
    place(storage, folder)
    for number in range(3):
        storage.append(f"{number}", {"payload": pa.array([bytes(8)] * 10, pa.binary(8))})
    path = folder / "1.bin"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(records(1000, 100))
    storage.delete([7, 305])
    with pytest.raises(CorruptDataError, match="changed in place"):
        storage.compact()
    assert storage.describe().num_segments == 2
    assert values(storage, [7, 8, 250, 304, 305]) == [8, 250, 0]
    path.write_bytes(records(100, 100))
    os.utime(path, ns=times)
    storage.compact()
    described = storage.describe()
    assert (described.num_deleted_stored, described.num_in_place) == (0, 0)
    assert values(storage, [7, 8, 105, 304]) == [8, 105, 0]
    assert storage.verify() == []


def test_files_that_cannot_be_taken_are_told_apart(storage: StorageServer, folder: Path) -> None:
    """Truncated, corrupt, empty, of a wrong schema, a broken link, a folder and a pipe with a file's name."""
    storage.register({"format": "parquet", "path": str(folder), "label": "y", "settle_seconds": 0})
    good = pa.table({"x": [1, 2], "y": [0, 1]})
    for name in ("a", "cut", "corrupt", "wrong"):
        pq.write_table(good if name != "wrong" else pa.table({"z": ["text"], "y": [1]}), folder / f"{name}.parquet")
    data = (folder / "cut.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(data[: len(data) // 2])
    (folder / "corrupt.parquet").write_bytes(data[:4] + bytes(reversed(data[4:-8])) + data[-8:])
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "broken.parquet").symlink_to(folder / "nowhere")
    (folder / "folder.parquet").mkdir()
    os.mkfifo(folder / "pipe.parquet")
    storage.ingest()
    described = storage.describe()
    assert (described.num_samples, described.num_files) == (2, 2)
    reasons = {file.path: file.reason for file in described.quarantined}
    assert sorted(reasons) == ["corrupt.parquet", "cut.parquet", "wrong.parquet"]
    assert "column" in reasons["wrong.parquet"]
    for name in ("cut", "corrupt", "wrong"):
        settle_file(folder / f"{name}.parquet", data)
    storage.ingest()
    described = storage.describe()
    assert (described.num_samples, len(described.quarantined)) == (8, 0), "repaired files are taken by themselves"


def test_a_file_that_may_not_be_read_is_set_aside(
    storage: StorageServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.csv").write_text("x\n1\n")
    (folder / "secret.csv").write_text("x\n2\n")
    storage.register({"format": "csv", "path": str(folder), "settle_seconds": 0})
    from modyn.storage.formats.csv import CsvFormat

    original = CsvFormat.read
    forbidden = PermissionError(errno.EACCES, "Permission denied")

    def read(self: CsvFormat, path: Path, expected: Any) -> Any:
        if path.name == "secret.csv":
            raise forbidden  # tests may run as root, who reads everything
        return original(self, path, expected)

    monkeypatch.setattr(CsvFormat, "read", read)
    storage.ingest()
    [file] = storage.describe().quarantined
    assert (file.path, file.reason) == ("secret.csv", "cannot be read: Permission denied")
    assert storage.describe().num_samples == 1


def test_files_that_change_while_they_are_scanned(storage: StorageServer, folder: Path) -> None:
    """Writers and ingest at once: no file is taken half, none is taken twice, all are there in the end."""
    storage.register({"format": "csv", "path": str(folder), "settle_seconds": 0.2})
    stop = threading.Event()

    def write(caller: int) -> None:
        for number in range(6):
            path = folder / f"{caller}-{number}.csv"
            with path.open("w") as file:
                file.write("x\n")
                for row in range(40):
                    file.write(f"{(caller * 100 + number) * 100 + row}\n")
                    if row % 10 == 0:
                        file.flush()
                        time.sleep(0.005)
            if number % 3 == 2:
                (folder / f"{caller}-{number - 1}.csv").unlink(missing_ok=True)

    threads = [threading.Thread(target=write, args=(caller,)) for caller in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            storage.ingest()
        except ModynError as error:
            raise AssertionError(error.message) from error
    stop.set()
    storage.ingest()
    described = storage.describe()
    assert len(described.quarantined) == 0
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(described.end_key)), batch_size=10**6))
    live = read_columns(storage.stub, NAME, interval())["key"].to_numpy()
    found = batch.columns["x"].to_numpy()[np.searchsorted(batch.keys, live)]
    assert len(np.unique(found)) == len(found), "no sample twice"
    files, counts = np.unique(found // 100, return_counts=True)
    assert (counts == 40).all(), "no half file"
    present = {int(p.stem.split("-")[0]) * 100 + int(p.stem.split("-")[1]) for p in folder.glob("*.csv")}
    assert present <= set(files.tolist())
