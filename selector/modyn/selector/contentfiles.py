"""Folders of immutable Arrow files that are named by the digest of their content."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.digests import Digest
from modyn.core.errors import CorruptDataError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, remove_leftovers

OPEN_FILES = 256
"""How many files of a folder stay memory-mapped."""

Content = TypeVar("Content")


class _Written(NamedTuple):
    """What tells that a file was written again."""

    inode: int
    size: int
    modified: int  # nanoseconds

    @staticmethod
    def of(path: Path) -> _Written:
        status = path.stat()
        return _Written(status.st_ino, status.st_size, status.st_mtime_ns)


class StoredFile(NamedTuple):
    """A file of a folder: digest, bytes, and when it was stored last, Unix seconds."""

    name: str
    num_bytes: int
    used_at: float


class ContentFiles(ABC, Generic[Content]):
    """A folder of such files. Safe to use from many threads."""

    what: ClassVar[str]
    """What a file is, for messages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        self._open: OrderedDict[str, Content] = OrderedDict()
        self._verified: dict[str, _Written] = {}
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        return self._folder / f"{digest}.arrow"

    def get(self, digest: str) -> Content:
        """A file's content, memory-mapped.

        It is verified against its digest when this process first opens it. Opened again, as policies that read all past
        sets do with more than :data:`OPEN_FILES` of them, it is only mapped, unless it was written since.

        Raises:
            NotFoundError: there is no such file.
            CorruptDataError: it is damaged.
        """
        with self._lock:
            if digest in self._open:
                self._open.move_to_end(digest)
                return self._open[digest]
        content = self._read(digest)
        with self._lock:
            self._open[digest] = content
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return content

    def all(self) -> list[StoredFile]:
        """Every file, by digest."""
        found: list[StoredFile] = []
        for path in sorted(self._folder.glob("*.arrow")):
            try:
                status = path.stat()
            except FileNotFoundError:  # removed at this moment
                continue
            if not path.name.startswith(TEMPORARY_PREFIX):
                found.append(StoredFile(path.stem, status.st_size, status.st_mtime))
        return found

    def touch(self, digest: str) -> bool:
        """Says that a file was stored now; whether it is there."""
        with self._lock:
            try:
                os.utime(self.path(digest))
            except FileNotFoundError:
                return False
        return True

    def remove(self, digest: str, before: float) -> bool:
        """Removes a file unless it was stored again after this time, Unix seconds; whether it did.

        Whoever has it open goes on reading.
        """
        with self._lock:
            path = self.path(digest)
            try:
                if path.stat().st_mtime > before:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            self._open.pop(digest, None)
            self._verified.pop(digest, None)
            fsync_directory(self._folder)
        return True

    def _read(self, digest: str) -> Content:
        path = self.path(digest)
        try:
            written = _Written.of(path)
            with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
                content = self._load(reader)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no {self.what} {digest} in {self._folder}") from error
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise CorruptDataError(f"{path} is damaged ({error}); delete it and run the pipeline again") from error
        if self._verified.get(digest) == written:
            return content
        if self._digest(content) != digest:
            raise CorruptDataError(f"{path} does not match its checksum; delete it and run the pipeline again")
        self._verified[digest] = written
        return content

    @abstractmethod
    def _load(self, reader: pa.RecordBatchFileReader) -> Content:
        """The content of an open file.

        Raises:
            pa.ArrowException, OSError, KeyError, ValueError: it is damaged, or of a format that is not known.
        """

    @abstractmethod
    def _digest(self, content: Content) -> str:
        """Of the content, hex."""


def check_version(metadata: dict[bytes, bytes], expected: int) -> None:
    """
    Raises:
        KeyError, ValueError: the file is of another format version, or says none.
    """
    version = metadata[b"modyn.format_version"].decode()
    if version != str(expected):
        raise ValueError(f"format version {version}, this release reads {expected}")


def digest_of_metadata(metadata: dict[bytes, bytes]) -> Digest:
    """A digest that has taken in a schema's metadata, whatever their order."""
    digest = Digest()
    for key, value in sorted(metadata.items()):
        digest.update(b"%d:%s=%d:%s;" % (len(key), key, len(value), value))
    return digest


def little_endian(values: npt.NDArray[np.generic]) -> memoryview:
    """The bytes of a column, the same on every machine."""
    ordered: Any = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return memoryview(ordered).cast("B")
