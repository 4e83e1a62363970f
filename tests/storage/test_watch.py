"""Watch streams: new key ranges as they are committed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.errors import CancelledError, InvalidInputError, NotFoundError
from modyn.core.rpc import cancel
from modyn.proto.storage_pb2 import NewData, WatchDatasetRequest
from tests.storage.support import NAME, StorageServer


def watch(storage: StorageServer, cursor: int = 0, name: str = NAME) -> Iterator[NewData]:
    return iter(storage.stub.WatchDataset(WatchDatasetRequest(dataset=name, cursor=cursor)))


def keys(data: NewData) -> tuple[int, int]:
    return data.keys.start, data.keys.end


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]


def wait_until_gone() -> None:
    deadline = time.monotonic() + 10
    while watchers() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not watchers()


def test_appended_batches_are_pushed_promptly(storage: StorageServer) -> None:
    storage.register()
    storage.append("one", {"x": [1, 2]})
    stream = watch(storage)
    assert keys(next(stream)) == (0, 2)
    sent: list[float] = []

    def send() -> None:
        time.sleep(0.2)
        sent.append(time.monotonic())
        storage.append("two", {"x": [3]})

    thread = threading.Thread(target=send)
    thread.start()
    assert keys(next(stream)) == (2, 3)
    assert time.monotonic() - sent[0] < 2
    thread.join()
    cancel(stream)


def test_a_stream_starts_at_its_cursor(storage: StorageServer) -> None:
    storage.register()
    storage.append("one", {"x": [1, 2]})
    storage.append("two", {"x": [3, 4, 5]})
    stream = watch(storage, cursor=3)
    data = next(stream)
    assert keys(data) == (3, 5)
    assert abs(data.arrival - time.time()) < 60
    cancel(stream)
    with pytest.raises(InvalidInputError, match=r"cursor 6 .* 0 to its end key, 5"):
        next(watch(storage, cursor=6))
    with pytest.raises(NotFoundError):
        next(watch(storage, name="other"))


def test_new_files_are_found_while_somebody_watches(storage: StorageServer, folder: Path) -> None:
    storage.register({"format": "csv", "path": str(folder), "label": "y", "poll_seconds": 0.05, "settle_seconds": 0.1})
    assert not watchers()
    first, second = watch(storage), watch(storage)
    for index in range(3):
        temporary = folder / f"{index}.csv.tmp"
        temporary.write_text(f"x,y\n{index},0\n")
        os.rename(temporary, folder / f"{index}.csv")
        assert keys(next(first)) == keys(next(second)) == (index, index + 1)
    (folder / "bad.csv").write_text("x\n1\n")
    deadline = time.monotonic() + 10
    while not storage.describe().quarantined and time.monotonic() < deadline:
        time.sleep(0.05)
    assert storage.describe().quarantined[0].path == "bad.csv"
    (folder / "late.csv").write_text("x,y\n9,0\n")
    assert keys(next(first)) == (3, 4)
    cancel(first)
    time.sleep(0.2)
    assert len(watchers()) == 1, "the other stream still watches"
    cancel(second)
    wait_until_gone()


def test_the_watcher_survives_a_folder_that_goes_and_comes_back(storage: StorageServer, folder: Path) -> None:
    storage.register({"format": "csv", "path": str(folder), "poll_seconds": 0.05, "settle_seconds": 0})
    stream = watch(storage)
    folder.rename(folder.with_name("elsewhere"))
    time.sleep(0.3)
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    assert keys(next(stream)) == (0, 1)
    cancel(stream)


def test_streams_end_when_the_service_closes(storage: StorageServer, folder: Path) -> None:
    storage.register({"format": "csv", "path": str(folder)})
    stream = watch(storage)
    ended = threading.Event()

    def consume() -> None:
        with contextlib.suppress(CancelledError):
            assert list(stream) == []
        ended.set()

    thread = threading.Thread(target=consume)
    thread.start()
    deadline = time.monotonic() + 10
    while not watchers() and time.monotonic() < deadline:
        time.sleep(0.01)
    storage.service.close()
    assert ended.wait(10)
    thread.join()
    assert not watchers()
