"""Noticing at once what happens in a folder: Linux says so (inotify), and a watcher need not wait for its next look.

It only makes looks come sooner. Where nothing is said (another system, a network file system, too many folders), the
watcher's own looks find everything as they always did.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from modyn.storage.folder import IGNORED_PREFIXES, UNFINISHED_SUFFIXES

logger = logging.getLogger(__name__)

MAX_FOLDERS = 1000
"""So many folders are observed at most; the system has a limit for all programs of a user together."""

GATHER_SECONDS = 0.01
"""Files that come together are looked at together."""

_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows (include/uapi/linux/inotify.h)
_CLOSED_AFTER_WRITING = 0x8
_MOVED_HERE = 0x80
_CREATED = 0x100
_OVERFLOWN = 0x4000
_GONE = 0x8000
_ONLY_FOLDERS = 0x01000000
_IS_FOLDER = 0x40000000
_READ_BYTES = 1 << 16


class Notice:
    """Waits that end early: when a file appeared below a folder, or when nobody watches any more.

    One thread observes, waits and closes; :meth:`stop` may be called from any.
    """

    def __init__(self) -> None:
        self._stop_read, self._stop_write = os.pipe()
        self._lock = threading.Lock()
        self._closed = False
        self._root: str | None = None
        self._inotify: _Inotify | None = None
        self._folders: dict[int, str] = {}
        self._moved: set[str] = set()

    def observe(self, folder: Path | None) -> None:
        """Observes a folder with its sub-folders from now on, instead of what was; again changes nothing.

        Args:
            folder: as the source names it; None: nothing, waits end early only when stopped.
        """
        root = None if folder is None else str(folder)
        if root == self._root and (root is None or self._folders):
            return
        self._end_observing()
        self._root = root
        if root is not None and (inotify := _Inotify.open()) is not None:
            self._inotify = inotify
            self._add(root)

    def wait(self, at_least: float, at_most: float) -> bool:
        """Waits until a file appeared or the longest time is over; False if it was stopped.

        Args:
            at_least, at_most: seconds.
        """
        started = time.monotonic()
        earliest, latest = started + at_least, started + max(at_least, at_most)
        poll = select.poll()
        for fd in (self._stop_read, *([] if self._inotify is None else [self._inotify.fd])):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(1000 * max(0.0, latest - time.monotonic()))]
            if self._stop_read in ready:
                return False
            if not ready:
                return True
            if self._read():
                latest = min(latest, max(earliest, time.monotonic() + GATHER_SECONDS))

    def take_moved(self) -> set[str]:
        """Files that were renamed into place since this was asked last, which are complete: their paths, which begin
        with the folder as it was named."""
        moved, self._moved = self._moved, set()
        return moved

    def stop(self) -> None:
        """Ends the wait, and every later one."""
        with self._lock:
            if not self._closed:
                os.write(self._stop_write, b"s")

    def close(self) -> None:
        """Releases everything."""
        with self._lock:
            self._closed = True
            self._end_observing()
            os.close(self._stop_read)
            os.close(self._stop_write)

    def _end_observing(self) -> None:
        if self._inotify is not None:
            os.close(self._inotify.fd)
        self._inotify = None
        self._folders.clear()
        self._moved.clear()

    def _add(self, folder: str) -> None:
        """Observes a folder and those in it."""
        assert self._inotify is not None
        for path in _folders_in(folder):
            if len(self._folders) >= MAX_FOLDERS:
                logger.info("%s has many folders; files in some of them are found a little later", folder)
                return
            watch = self._inotify.add(path)
            if watch is None:
                return
            self._folders[watch] = path

    def _read(self) -> bool:
        """Whether something appeared that is worth a look."""
        assert self._inotify is not None
        worth = False
        for watch, mask, name in self._inotify.events():
            if mask & _OVERFLOWN:
                worth = True
            elif mask & _GONE:
                self._folders.pop(watch, None)
            elif watch in self._folders and not name.startswith(IGNORED_PREFIXES):
                worth |= self._appeared(f"{self._folders[watch]}/{name}", mask)
        return worth

    def _appeared(self, path: str, mask: int) -> bool:
        if mask & _IS_FOLDER:
            self._add(path)
            return True  # there may be files in it already
        if path.endswith(UNFINISHED_SUFFIXES) or not mask & (_MOVED_HERE | _CLOSED_AFTER_WRITING):
            return False
        if mask & _MOVED_HERE:
            self._moved.add(path)
        return True


class _Inotify:
    """The three system calls; their failures mean that nothing is noticed, which is never wrong."""

    def __init__(self, libc: ctypes.CDLL, fd: int) -> None:
        self._libc = libc
        self.fd = fd

    @staticmethod
    def open() -> _Inotify | None:
        if sys.platform != "linux":
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return _Inotify(libc, fd) if fd >= 0 else None

    def add(self, folder: str) -> int | None:
        mask = _CLOSED_AFTER_WRITING | _MOVED_HERE | _CREATED | _ONLY_FOLDERS
        watch: int = self._libc.inotify_add_watch(self.fd, os.fsencode(folder), mask)
        return watch if watch >= 0 else None

    def events(self) -> Iterator[tuple[int, int, str]]:
        """Watch, mask and name of each."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            yield watch, mask, os.fsdecode(data[position : position + length].rstrip(b"\0"))
            position += length


def _folders_in(folder: str) -> Iterator[str]:
    """A folder and all in it that a source looks into."""
    pending = [folder]
    while pending:
        path = pending.pop()
        yield path
        try:
            with os.scandir(path) as entries:
                pending += [
                    entry.path
                    for entry in entries
                    if not entry.name.startswith(IGNORED_PREFIXES) and entry.is_dir(follow_symlinks=False)
                ]
        except OSError:  # vanished meanwhile, or not ours to read
            continue
