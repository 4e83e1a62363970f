"""Fetching remote files: whole and as they were listed, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modyn.core.errors import CancelledError, UnavailableError
from modyn.core.files import TEMPORARY_PREFIX
from modyn.storage.filesystems import AccessRefusedError, RemoteFolder

RETRY_PAUSES = (0.2, 1.0, 3.0, 6.0, 10.0)
"""Seconds between the attempts of one download."""


class Downloads:
    """Downloads into temporary files of a folder. What a crash left there is removed."""

    def __init__(self, folder: Path, remote: RemoteFolder) -> None:
        self._folder = folder
        self._remote = remote
        self._closed = threading.Event()
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            _remove_abandoned(path)

    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Lets running downloads end soon, with :class:`CancelledError`."""
        self._closed.set()

    def download(self, name: str, size: int, mtime_ns: int, stop: threading.Event | None = None) -> Path:
        """A copy under a temporary name, with the file's modification time; durable.

        Args:
            size: bytes, as listed.
            mtime_ns: modification time, as listed.
            stop: ends it early.

        Raises:
            FileNotFoundError: the file was changed or removed.
            CorruptDataError: it can be listed but not opened.
            UnavailableError: it could not be fetched in several attempts, access is refused, or the disk is full.
            CancelledError: it was stopped.
        """
        pauses = iter(RETRY_PAUSES)
        while True:
            try:
                return self._attempt(name, size, mtime_ns, stop)
            except AccessRefusedError:
                raise
            except UnavailableError:
                pause = next(pauses, None)
                if pause is None or (stop is not None and stop.is_set()):
                    raise
            if self._closed.wait(pause):
                raise _stopping()

    @contextmanager
    def local_errors(self, temporary: Path | None = None) -> Iterator[None]:
        """Says what is wrong with the local disk, and deletes a temporary file then."""
        try:
            yield
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise UnavailableError(
                f"the cache {self._folder} cannot be written: {error.strerror or error}; free space on its disk, or "
                "lower data.source.cache_bytes"
            ) from error

    def _attempt(self, name: str, size: int, mtime_ns: int, stop: threading.Event | None) -> Path:
        temporary = self._folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        with self.local_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            file = temporary.open("wb")
        try:
            with file:
                fcntl.flock(file, fcntl.LOCK_EX)  # not a crash's, says this to other storage processes
                count = self._copy(name, file, stop)
                with self.local_errors():
                    file.flush()
                    os.utime(file.fileno(), ns=(time.time_ns(), mtime_ns))
                    os.fsync(file.fileno())  # a copy that survives a power cut is trusted
            if self._remote.identity(name) != (size, mtime_ns):
                raise FileNotFoundError(errno.ENOENT, "was changed or removed", name)
            if count != size:
                raise UnavailableError(f"{self._remote.uri}/{name}: the download ended after {count} of {size} bytes")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _copy(self, name: str, file: BinaryIO, stop: threading.Event | None) -> int:
        count = 0
        for data in self._remote.chunks(name):
            if self.is_closed() or (stop is not None and stop.is_set()):
                raise _stopping()
            count += len(data)
            with self.local_errors():
                file.write(data)
        return count


def _remove_abandoned(path: Path) -> None:
    """Deletes a temporary file unless somebody is writing it."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _stopping() -> CancelledError:
    return CancelledError("the storage service stops; the file is fetched when it is back")
