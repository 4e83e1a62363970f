"""What the system says of a folder makes looks come sooner, and never later or wrong."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modyn.core.rpc import cancel
from modyn.proto.storage_pb2 import WatchDatasetRequest
from modyn.storage import notice as module
from modyn.storage.notice import Notice
from tests.storage.support import NAME, StorageServer

LONG = 30.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system says nothing of folders")


@pytest.fixture
def notice(tmp_path: Path) -> Iterator[Notice]:
    notice = Notice()
    yield notice
    notice.close()
    notice.stop()  # nobody waits any more


def seconds_until_noticed(notice: Notice, work: Callable[[], object], *, at_most: float = LONG) -> float:
    """From the end of what is done while the notice waits."""
    done: list[float] = []

    def later() -> None:
        time.sleep(0.1)
        work()
        done.append(time.monotonic())

    thread = threading.Thread(target=later)
    thread.start()
    assert notice.wait(0.0, at_most)
    woken = time.monotonic()
    thread.join()
    return woken - done[0]


@linux
def test_files_that_appear_end_a_wait(notice: Notice, tmp_path: Path) -> None:
    notice.observe(tmp_path)
    path = tmp_path / "a.csv"
    (tmp_path / "b.tmp").touch()
    assert seconds_until_noticed(notice, lambda: os.rename(tmp_path / "b.tmp", path)) < 5
    assert notice.take_moved() == {str(path)}
    assert notice.take_moved() == set()
    assert seconds_until_noticed(notice, lambda: path.write_text("more")) < 5
    assert notice.take_moved() == set()  # it may be written to again


@linux
def test_folders_that_appear_are_observed_too(notice: Notice, tmp_path: Path) -> None:
    notice.observe(tmp_path)
    inner = tmp_path / "x" / "y"
    assert seconds_until_noticed(notice, lambda: inner.mkdir(parents=True)) < 5
    notice.wait(0.0, 0.2)  # for the inner one, if it was not there yet when the outer one was looked into
    (tmp_path / "b.tmp").touch()
    assert seconds_until_noticed(notice, lambda: os.rename(tmp_path / "b.tmp", inner / "a")) < 5
    assert notice.take_moved() == {str(inner / "a")}


@linux
def test_what_is_no_sample_yet_ends_no_wait(notice: Notice, tmp_path: Path) -> None:
    notice.observe(tmp_path)
    started = time.monotonic()

    def work() -> None:
        for name in (".hidden", "_log", "a.tmp", "b.part"):
            (tmp_path / name).write_text("x")
        (tmp_path / "a.tmp").unlink()

    seconds_until_noticed(notice, work, at_most=0.5)
    assert time.monotonic() - started >= 0.5
    assert notice.take_moved() == set()


@linux
def test_looks_are_not_more_frequent_than_they_may_be(notice: Notice, tmp_path: Path) -> None:
    notice.observe(tmp_path)
    (tmp_path / "a").touch()
    started = time.monotonic()
    assert notice.wait(0.4, LONG)
    assert 0.4 <= time.monotonic() - started < 5


@linux
def test_a_folder_that_comes_back_is_observed_again(notice: Notice, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    notice.observe(folder)  # not there yet
    folder.mkdir()
    notice.observe(folder)
    folder.rmdir()
    assert notice.wait(0.0, 0.05)
    folder.mkdir()
    notice.observe(folder)
    assert seconds_until_noticed(notice, (folder / "a").touch) < 5


def test_stopping_ends_a_wait_and_all_later_ones(notice: Notice, tmp_path: Path) -> None:
    notice.observe(tmp_path)
    threading.Timer(0.1, notice.stop).start()
    started = time.monotonic()
    assert not notice.wait(LONG, LONG)
    assert not notice.wait(0.0, LONG)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("says", [pytest.param(True, marks=linux), False])
def test_a_file_renamed_within_a_clock_tick_is_taken_at_once_if_the_system_says_so(
    storage: StorageServer, folder: Path, monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    if not says:
        monkeypatch.setattr(module._Inotify, "open", lambda: None)
    poll = LONG if says else 0.05
    storage.register({"format": "csv", "path": str(folder), "label": "y", "poll_seconds": poll, "settle_seconds": 2})
    stream = iter(storage.stub.WatchDataset(WatchDatasetRequest(dataset=NAME, cursor=0)))
    time.sleep(0.3)  # the watcher's first look
    temporary = folder / "a.csv.tmp"
    temporary.write_text("x,y\n1,0\n")
    os.rename(temporary, folder / "a.csv")
    now = time.time_ns()
    os.utime(folder / "a.csv", ns=(now, now + 10**9))  # as if it had been written no earlier than renamed
    started = time.monotonic()
    assert next(stream).keys.end == 1
    assert (time.monotonic() - started < 2) == says
    cancel(stream)
