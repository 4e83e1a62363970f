"""Writing files so that a crash leaves either the whole file or none."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE_BYTES = 16 << 20  # a call of the kernel costs more than bytes that have left the cache

TEMPORARY_PREFIX = ".tmp-"
"""Files and folders with this prefix are leftovers of a crash and may be deleted when their owner starts."""


def fsync_directory(path: Path) -> None:
    """Makes renames inside a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_file(path: Path) -> None:
    """Makes a file's content durable; its name is only with :func:`fsync_directory`."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_batch(path: Path, batch: pa.RecordBatch) -> tuple[int, str]:
    """Writes one record batch as an uncompressed Arrow IPC file, durably but for its name.

    Returns:
        The file's size in bytes and its checksum.

    Raises:
        OSError: the disk is full or not writable.
    """
    import pyarrow as pa

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        file = _ChecksummedFile(fd)
        with pa.PythonFile(file, "w") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        os.fsync(fd)
    finally:
        os.close(fd)
    return file.size, file.checksum.hexdigest()


class _ChecksummedFile:
    """The file object that Arrow writes to, a large buffer a call."""

    closed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = 0
        self.checksum = xxhash.xxh3_128()

    def write(self, data: memoryview | bytes) -> int:
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_BYTES):
            piece = view[start : start + _PIECE_BYTES]
            self.checksum.update(piece)
            done = 0
            while done < len(piece):
                done += os.write(self._fd, piece[done:])
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``target``; on success it is fsynced and renamed to ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{target.suffix}"
    try:
        yield temporary
        fsync_file(temporary)
        os.replace(temporary, target)
        fsync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> None:
    """Deletes what a crash left half-written in a directory (not in its sub-directories)."""
    import shutil

    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
