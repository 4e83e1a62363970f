"""Copies of remote files on the local disk, bounded in size; the least recently used go first.

Copies lie below ``files/`` as the files lie below the source's URI, so that a format finds a label file or the name of
a class where it finds them in a local folder. A copy has the object's size and modification time, by which it is
recognized after a restart. Every copy can be fetched again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from modyn.core.errors import CorruptDataError, ModynError
from modyn.storage.downloads import Downloads
from modyn.storage.filesystems import RemoteFolder, RemoteObject

if TYPE_CHECKING:
    from modyn.storage.folder import SourceFile

PREFETCH_THREADS = 16
"""Small objects take a few round trips each, so many are fetched at once."""

PREFETCH_BYTES = 512 << 20
"""How far fetching runs ahead of the scan."""

GRACE_SECONDS = 2.0
"""A file that was asked for is not evicted for this long, so that it can be opened."""

MAX_COMPONENT_BYTES = 255


class _Entry:
    __slots__ = ("pinned", "size", "used")

    def __init__(self, size: int, used: float) -> None:
        self.size = size
        self.used = used
        self.pinned = False


class FileCache:
    """Local copies of one source's files. Safe to use from many threads, and by several processes, each with its limit.

    Args:
        folder: for the copies; made when it is needed. What a crash left half-fetched in it is removed.
        limit_bytes: of all copies together. A single larger file, and files that are being read, may exceed it.
    """

    def __init__(self, folder: Path, remote: RemoteFolder, limit_bytes: int) -> None:
        self.folder = folder
        self.root = folder / "files"
        self.remote = remote
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._downloads = Downloads(folder, remote)
        self._busy: WeakValueDictionary[str, _NameLock] = WeakValueDictionary()
        self._taken: set[str] = set()
        self._folders: set[str] = set()
        self._pinned_bytes = 0
        self._coming_bytes = 0
        self._entries = _found_entries(self.root)  # the least recently used first
        self._bytes = sum(entry.size for entry in self._entries.values())

    @property
    def num_bytes(self) -> int:
        """Of all copies."""
        return self._bytes

    def place(self, name: str) -> str:
        """Where the copy of a file lies, or would lie.

        Raises:
            CorruptDataError: a local file cannot have this name.
        """
        return str(self.root / self._key(name))

    def list(self) -> Sequence[RemoteObject]:
        """All objects below the URI now.

        Raises:
            UnavailableError: the service cannot be reached, or refuses.
        """
        objects = self.remote.list()
        self._folders = _folders_of(objects)
        return objects

    def local_path(self, uri: str, size: int, mtime_ns: int) -> str:
        """A local copy of an ingested file, fetched again if it was evicted. Open it at once: it may be evicted later.

        Args:
            uri: below the source's URI.
            size: bytes it had when it was ingested.
            mtime_ns: modification time it had then.

        Raises:
            CorruptDataError: it is gone, or is not the one that was ingested.
            UnavailableError: it cannot be fetched now.
        """
        name = uri.removeprefix(f"{self.remote.uri}/")
        try:
            return self._fetched(name, size, mtime_ns, pin=False)
        except FileNotFoundError as error:
            raise CorruptDataError(
                f"{uri} was changed or removed after it was ingested, so its samples as ingested are gone; ingest "
                "again to take the new ones, and add objects rather than replace them to keep the old ones readable"
            ) from error

    def forget(self, uri: str) -> None:
        """Deletes the local copy of a file; whoever has it open reads on."""
        self.release(uri.removeprefix(f"{self.remote.uri}/"), keep=False)

    # ------------------------------------------------------------------------------------------ for a scan

    def fetch(self, name: str, size: int, mtime_ns: int) -> str:
        """A local copy of a file as it was listed. It stays until :meth:`release`, or until :meth:`prefetching` ends.

        Raises:
            FileNotFoundError: it was changed or removed meanwhile.
            CorruptDataError: it cannot be opened, or its name cannot be used.
            UnavailableError: it cannot be fetched now.
            CancelledError: the storage service stops.
        """
        with self._lock:
            self._taken.add(name)
        return self._fetched(name, size, mtime_ns, pin=True)

    def release(self, name: str, *, keep: bool) -> None:
        """The scan is done with a file; it is kept as long as there is room if it is read again, and deleted if not."""
        try:
            key = self._key(name)
        except CorruptDataError:
            return
        with self._lock:
            self._unpin(key)
            if not keep:
                self._remove(key)
            self._evict()

    @contextmanager
    def prefetching(self, files: Sequence[SourceFile]) -> Iterator[None]:
        """Fetches files ahead of whoever reads them, in this order. One at a time.

        What was fetched meanwhile and not released is deleted in the end.
        """
        stop = threading.Event()
        queue = iter(files)
        with self._lock:
            self._taken.clear()
        pool = ThreadPoolExecutor(PREFETCH_THREADS, thread_name_prefix="fetch")
        try:
            for _ in range(min(PREFETCH_THREADS, len(files))):
                pool.submit(self._prefetch, queue, stop)
            yield
        finally:
            stop.set()
            with self._room:
                self._room.notify_all()
            pool.shutdown()
            with self._lock:
                for key in [key for key, entry in self._entries.items() if entry.pinned]:
                    self._remove(key)

    def close(self) -> None:
        """Lets downloads end soon, with :class:`CancelledError`."""
        self._downloads.close()
        with self._room:
            self._room.notify_all()

    def _prefetch(self, queue: Iterator[SourceFile], stop: threading.Event) -> None:
        window = min(PREFETCH_BYTES, self.limit_bytes)
        while True:
            with self._room:
                while self._pinned_bytes + self._coming_bytes >= window and not self._is_over(stop):
                    self._room.wait()
                file = None if self._is_over(stop) else next(queue, None)
                if file is None:
                    return
                self._coming_bytes += file.size
            try:
                for name, companion in file.companions:
                    if companion is not None:
                        self._fetched(name, companion.size, companion.mtime_ns, pin=True, ahead=stop)
                self._fetched(file.name, file.size, file.mtime_ns, pin=True, ahead=stop)
            except (FileNotFoundError, CorruptDataError):
                continue  # the scan finds out for itself
            except ModynError:  # the scan meets it too, and says so
                return
            finally:
                with self._room:
                    self._coming_bytes -= file.size
                    self._room.notify_all()

    def _is_over(self, stop: threading.Event) -> bool:
        return stop.is_set() or self._downloads.is_closed()

    # ------------------------------------------------------------------------------------------ the copies

    def _fetched(self, name: str, size: int, mtime_ns: int, *, pin: bool, ahead: threading.Event | None = None) -> str:
        key = self._key(name)
        path = str(self.root / key)
        with self._lock:
            busy = self._busy.setdefault(name, _NameLock())
        with busy.lock:
            with self._lock:
                if ahead is not None and name in self._taken:
                    return path  # the scan was faster
                if self._use(key, path, size, mtime_ns, pin=pin):
                    return path
            temporary = self._downloads.download(name, size, mtime_ns, ahead)
            with self._lock:  # so that no earlier copy is evicted by the path of this one
                self._forget(key)
                with self._downloads.local_errors(temporary):
                    self._put(temporary, key)
                self._entries[key] = _Entry(size, time.monotonic())
                self._bytes += size
                if pin:
                    self._pin(key)
                self._evict()
        return path

    def _use(self, key: str, path: str, size: int, mtime_ns: int, *, pin: bool) -> bool:
        try:
            stat = os.stat(path)
            if (stat.st_size, stat.st_mtime_ns) != (size, mtime_ns):
                return False
            os.utime(path, ns=(time.time_ns(), mtime_ns))  # a restart finds the order of use by it
        except OSError:
            return False
        if key not in self._entries:
            self._entries[key] = _Entry(size, 0.0)
            self._bytes += size
        self._entries[key].used = time.monotonic()
        self._entries.move_to_end(key)
        if pin:
            self._pin(key)
        return True

    def _key(self, name: str) -> str:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise CorruptDataError(f"name {name!r} has a part that no file can have; rename the object")
        if max(len(os.fsencode(part)) for part in parts) > MAX_COMPONENT_BYTES:
            raise CorruptDataError(
                f"name {name!r} has a part of more than {MAX_COMPONENT_BYTES} bytes; rename the object"
            )
        if name in self._folders:
            raise CorruptDataError(f"name {name!r} is that of a folder, too; rename the object")
        return name

    def _put(self, temporary: Path, key: str) -> None:
        path = self.root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            # What is a folder now was an object before, or the other way round.
            for other in list(self._entries):
                if key.startswith(f"{other}/") or other.startswith(f"{key}/"):
                    self._remove(other)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)

    def _pin(self, key: str) -> None:
        entry = self._entries[key]
        if not entry.pinned:
            entry.pinned = True
            self._pinned_bytes += entry.size

    def _unpin(self, key: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry.pinned:
            entry.pinned = False
            self._pinned_bytes -= entry.size
            self._room.notify_all()

    def _evict(self) -> None:
        excess = self._bytes - self.limit_bytes
        if excess <= 0:
            return
        horizon = time.monotonic() - GRACE_SECONDS
        victims = []
        for key, entry in self._entries.items():
            if excess <= 0 or entry.used > horizon:
                break
            if not entry.pinned:
                victims.append(key)
                excess -= entry.size
        for key in victims:
            self._remove(key)

    def _remove(self, key: str) -> None:
        self._forget(key)
        path = self.root / key
        path.unlink(missing_ok=True)
        with suppress(OSError):  # others lie in it
            for folder in list(path.parents)[: key.count("/")]:
                folder.rmdir()

    def _forget(self, key: str) -> None:
        self._unpin(key)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size


class _NameLock:
    """Held while one file is fetched, so that nobody fetches it twice."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def _folders_of(objects: Sequence[RemoteObject]) -> set[str]:
    folders: set[str] = set()
    for name in {found.name.rpartition("/")[0] for found in objects}:
        folder = name
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _found_entries(folder: Path) -> OrderedDict[str, _Entry]:
    """Copies of an earlier process."""
    found: list[tuple[int, str, int]] = []
    pending = [str(folder)] if folder.is_dir() else []
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            else:
                stat = entry.stat(follow_symlinks=False)
                found.append((stat.st_atime_ns, os.path.relpath(entry.path, folder), stat.st_size))
    return OrderedDict((key, _Entry(size, 0.0)) for _, key, size in sorted(found))
