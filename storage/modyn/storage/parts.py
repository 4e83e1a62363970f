"""Parts: where the payload of a segment's samples lies, and columns that rows are gathered from.

A segment of its own has one part, its ``payload.arrow``. A segment whose samples stay in the source's files has one
part for each file (or record batch of a file). Whatever a part is, it answers columns that :mod:`modyn.storage.gather`
reads.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import RecordLayout
from modyn.storage.faults import Guard


@dataclass(frozen=True, eq=False)
class Strided:
    """A payload column of n fixed-width values at regular distances in a memory map.

    Attributes:
        type: Arrow type of a value; its width is ``values.shape[1]`` bytes.
        values: uint8 [n, width], not contiguous where other fields lie between the values.
    """

    type: pa.DataType
    values: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class FileColumn:
    """The column ``payload`` of samples that are a file each."""

    paths: Sequence[str]
    sizes: Int64Array
    mtimes_ns: Int64Array

    def __len__(self) -> int:
        return len(self.paths)

    def read_into(self, row: int, memory: memoryview) -> None:
        """A whole file.

        Args:
            memory: of the file's size.

        Raises:
            CorruptDataError: the file is gone or is not the one that was ingested.
        """
        path = self.paths[row]
        try:
            with open(path, "rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                if (stat.st_size, stat.st_mtime_ns) != (self.sizes[row], self.mtimes_ns[row]):
                    raise changed(path)
                done = 0
                while done < len(memory):
                    if not (count := file.readinto(memory[done:])):
                        raise changed(path)
                    done += count
        except OSError as error:
            raise unreadable(path, error) from error


PayloadColumn: TypeAlias = "pa.Array | Strided | FileColumn"


@dataclass(frozen=True, eq=False)
class Mapping:
    """A file in memory as it was when it was ingested."""

    path: str
    size: int
    mtime_ns: int | None
    """None for files of our own, which nobody changes."""
    memory: mmap.mmap | None
    """None for empty files."""
    linked: bool = False
    """The path is a link of our own. Once compaction has removed it, who still has it in memory reads on."""
    guard: Guard | None = None
    """Of files that others may change."""
    origin: str = ""
    """What the file is called in messages; its path by default."""

    @cached_property
    def buffer(self) -> pa.Buffer:
        """The memory map; it is kept by whoever has a part of it."""
        return pa.py_buffer(self.memory if self.memory is not None else b"")

    @property
    def is_guarded(self) -> bool:
        """Whether a file that others may change can be read before it is checked."""
        return self.guard is not None and self.guard.holds

    @property
    def is_foreign(self) -> bool:
        """Whether others may change the file."""
        return self.mtime_ns is not None

    def check(self) -> None:
        """To be asked after every use of a file that others may change, and before it where nothing guards the map.

        Raises:
            CorruptDataError: the file was changed in place.
        """
        if self.mtime_ns is None:
            return
        if self.guard is not None and self.guard.faulted:
            raise changed(self.origin or self.path)
        try:
            stat = os.stat(self.path)
        except OSError as error:
            if self.linked and isinstance(error, FileNotFoundError):
                return
            raise unreadable(self.origin or self.path, error) from error
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.mtime_ns):
            raise changed(self.origin or self.path)


def map_file(
    path: Path | str, size: int, mtime_ns: int | None = None, *, linked: bool = False, origin: str = ""
) -> Mapping:
    """Maps a file; its descriptor is closed at once.

    Args:
        size: bytes it is expected to have.
        mtime_ns: modification time it is expected to have; None for files of our own.
        linked: it is a link of our own to a file of the source.
        origin: what the file is called in messages.

    Raises:
        CorruptDataError: it is gone, or has another size or time.
    """
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_size != size or mtime_ns not in (None, stat.st_mtime_ns):
                if mtime_ns is not None:
                    raise changed(origin or str(path))
                raise CorruptDataError(
                    f"segment file {path} has {stat.st_size} bytes; expected {size}; restore it from a copy"
                )
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
    except OSError as error:
        raise unreadable(origin or str(path), error) from error
    guard = Guard(memory) if memory is not None and mtime_ns is not None else None
    return Mapping(str(path), size, mtime_ns, memory, linked, guard, origin)


class Part(Protocol):
    """Payload rows of one file (or batch of one)."""

    @property
    def num_rows(self) -> int: ...

    @property
    def mapping(self) -> Mapping | None:
        """The memory map behind it; None where every sample is a file."""

    def column(self, name: str) -> PayloadColumn: ...

    def check(self) -> None:
        """
        Raises:
            CorruptDataError: the file behind it is not the one that was ingested.
        """


@dataclass(frozen=True, eq=False)
class BatchPart:
    """A record batch in a memory map."""

    batch: pa.RecordBatch
    mapping: Mapping | None

    @property
    def num_rows(self) -> int:
        return int(self.batch.num_rows)

    def column(self, name: str) -> PayloadColumn:
        return self.batch.column(name)

    def check(self) -> None:
        if self.mapping is not None:
            self.mapping.check()


@dataclass(frozen=True, eq=False)
class RecordsPart:
    """Fixed-size records in a memory map."""

    layout: RecordLayout
    mapping: Mapping | None
    _views: dict[str, Strided] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return self.layout.num_rows

    def column(self, name: str) -> PayloadColumn:
        if name not in self._views:
            self._views[name] = self._view(name)
        return self._views[name]

    def check(self) -> None:
        if self.mapping is not None:
            self.mapping.check()

    def _view(self, name: str) -> Strided:
        column = next(column for column in self.layout.columns if column.name == name)
        memory: Any = b"" if self.mapping is None or self.mapping.memory is None else self.mapping.memory
        values: npt.NDArray[np.uint8] = np.ndarray(
            (self.layout.num_rows, column.width),
            dtype=np.uint8,
            buffer=memory,
            offset=column.offset,
            strides=(column.stride, 1),
        )
        return Strided(column.type, values)


@dataclass(frozen=True, eq=False)
class FilesPart:
    """Samples that are a file each."""

    files: FileColumn
    mapping: Mapping | None = None

    @property
    def num_rows(self) -> int:
        return len(self.files)

    def column(self, name: str) -> PayloadColumn:
        return self.files

    def check(self) -> None:
        """Every file is checked when it is read."""


@dataclass(frozen=True, eq=False)
class LostPart:
    """Rows of a file that is no longer the one that was ingested; those of other files are not affected."""

    reason: CorruptDataError
    num_rows: int = 0
    mapping: Mapping | None = None

    def column(self, name: str) -> PayloadColumn:
        raise CorruptDataError(self.reason.message)

    def check(self) -> None:
        raise CorruptDataError(self.reason.message)


def changed(path: str) -> CorruptDataError:
    return CorruptDataError(
        f"file {path} was changed in place after it was ingested, so its samples as ingested are gone; ingest again to "
        "take the new ones, and replace files by renaming new ones over them to keep the old samples readable"
    )


def unreadable(path: str, error: OSError) -> CorruptDataError:
    return CorruptDataError(f"file {path} cannot be read: {error.strerror or error}; restore it from a copy")
