"""Power loss at random moments: what was not flushed to disk is gone.

:class:`Disk` keeps what is durable by the rules of POSIX: the content of a file as of its last ``fsync``, and the names
in a directory as of its last ``fsync``. From that alone a state directory is built as it is found afterwards.
The catalog's own durability is trusted; it is copied as it is, which is also the worst case: it is ahead of the files.
"""

from __future__ import annotations

import copy
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from modyn.core.errors import ModynError
from modyn.core.files import atomic_path, fsync_directory, fsync_file
from modyn.core.state import StateDirectory
from modyn.storage import compaction
from tests.storage.support import StorageServer
from tests.storage.workload import Event, Ledger, Workload, register, take_all

_fsync = os.fsync


class Disk:
    """What is durable of everything below a folder.

    Args:
        forgets: called at each flush; the flush has no effect where it answers true.
    """

    def __init__(self, root: Path, forgets: Callable[[int], bool] = lambda mode: False) -> None:
        self._root = str(root)
        self._forgets = forgets
        self._files: dict[int, tuple[bytes, int]] = {}
        self._folders: dict[int, dict[str, tuple[bool, int]]] = {}
        self.lock = threading.Lock()
        """Nothing becomes durable while it is held."""

    def fsync(self, fd: int) -> None:
        """In place of ``os.fsync``."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        if not path.startswith(self._root):
            _fsync(fd)
            return
        with self.lock:
            found = os.fstat(fd)
            if self._forgets(found.st_mode):
                return
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(path) as entries:
                    names = {e.name: (e.is_dir(follow_symlinks=False), e.inode()) for e in entries}
                self._folders[found.st_ino] = names
            else:
                with open(f"/proc/self/fd/{fd}", "rb") as file:
                    self._files[found.st_ino] = (file.read(), found.st_mtime_ns)

    def restore(self, folder: Path, target: Path) -> None:
        """Makes ``target`` what ``folder`` is after power loss. The lock is held."""
        self._restore(folder.stat().st_ino, target)

    def _restore(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, (is_folder, child) in self._folders.get(inode, {}).items():
            if is_folder:
                self._restore(child, target / name)
                continue
            content, mtime_ns = self._files.get(child, (b"", 0))
            (target / name).write_bytes(content)
            os.utime(target / name, ns=(mtime_ns, mtime_ns))


def test_the_disk_forgets_what_was_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    disk = Disk(root)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    (root / "unflushed").write_bytes(b"1")
    (root / "nameless").write_bytes(b"2")
    with atomic_path(root / "safe") as path:
        path.write_bytes(b"3")
    os.link(root / "safe", root / "inner" / "link")
    fsync_directory(root / "inner")
    (root / "later").write_bytes(b"4")
    fsync_file(root / "later")
    (root / "unflushed").unlink()
    disk.restore(root, tmp_path / "after")
    found = {
        str(path.relative_to(tmp_path / "after")): path.is_file() and path.read_bytes() for path in after(tmp_path)
    }
    assert found == {"inner": False, "inner/link": b"3", "safe": b"3", "nameless": b"", "unflushed": b""}


def after(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "after").rglob("*"))


@dataclass
class Loss:
    """A state directory after power loss, and what was asked for and acknowledged until then."""

    state: Path
    ledger: Ledger


def lose_power(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    times: int,
    seed: int,
    forgets: Callable[[int], bool] = lambda mode: False,
) -> list[Loss]:
    """Works on two datasets, and keeps what power loss would have left at random moments."""
    for name, value in (("SMALL_SEGMENTS", 4), ("PAUSE_SECONDS", 0.01), ("REMOVAL_SECONDS", 0.1)):
        monkeypatch.setattr(compaction, name, value)
    root, folder = tmp_path / "root", tmp_path / "root" / "sources"
    folder.mkdir(parents=True)
    disk, rng, losses, events = Disk(root, forgets), random.Random(seed), [], []  # type: ignore[var-annotated]
    monkeypatch.setattr(os, "fsync", disk.fsync)
    storage = StorageServer(StateDirectory(root / "state").create())
    fsync_directory(root)  # the state directory's own name is its owner's business
    register(storage, folder)
    workload = Workload(storage, folder, seed, events.append, pause=0.02)
    workload.start()
    for number in range(times):
        time.sleep(rng.uniform(0.05, 0.5))
        losses.append(_lost(disk, root, tmp_path / f"lost-{number}", events))
    workload.stop()
    storage.stop()
    monkeypatch.setattr(os, "fsync", _fsync)
    return losses


def _lost(disk: Disk, root: Path, target: Path, events: list[Event]) -> Loss:
    ledger = Ledger()
    acknowledged = len(events)
    assert take_all(ledger, events[:acknowledged]) == []
    with disk.lock:
        disk.restore(root, target)
        backup = sqlite3.connect(target / "state" / "catalog.db")
        source = sqlite3.connect(root / "state" / "catalog.db")
        source.backup(backup)
        source.close()
        backup.close()
        later = [event for event in events[acknowledged:] if event["state"] == "begin" or event["what"] == "seen"]
    take_all(ledger, copy.deepcopy(later))
    return Loss(target / "state", ledger)


def check(loss: Loss, folder: Path) -> None:
    storage = StorageServer(StateDirectory(loss.state).create())
    try:
        loss.ledger.check(storage, folder)
    finally:
        storage.stop()


@pytest.mark.parametrize("seed", [1])
def test_power_loss_takes_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    losses = lose_power(tmp_path, monkeypatch, times=5, seed=seed)
    for loss in losses:
        check(loss, tmp_path / "root" / "sources")
    assert min(losses[-1].ledger.num_acknowledged.values()) > 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10, 30))
def test_the_same_very_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    for loss in lose_power(tmp_path, monkeypatch, times=15, seed=seed):
        check(loss, tmp_path / "root" / "sources")


@pytest.mark.parametrize("kind", [stat.S_ISREG, stat.S_ISDIR])
def test_these_tests_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[int], bool]) -> None:
    """With some flushes of files, or of directories, left out."""
    rng = random.Random(3)
    losses = lose_power(tmp_path, monkeypatch, times=2, seed=3, forgets=lambda mode: kind(mode) and rng.random() < 0.1)
    with pytest.raises((AssertionError, ModynError, OSError)):
        check(losses[-1], tmp_path / "root" / "sources")
