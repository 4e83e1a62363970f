"""The bytes of NumPy's ``.npy`` files and ``.npz`` archives: headers, where arrays lie, and rows of them.

Nothing is unpickled: arrays of objects are refused by their header.
"""

from __future__ import annotations

import ast
import contextlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from modyn.core.errors import CorruptDataError

MAGIC = b"\x93NUMPY"
PARSE_ATTEMPTS = 5

MAX_HEADER_BYTES = 64 << 10
ZIP_HEADER_BYTES = 30
"""Fixed part of what stands before a member of a zip archive."""


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file.

    Attributes:
        member: name within an ``.npz`` archive; None for an ``.npy`` file.
        shape: of the whole array; at least one dimension.
        fortran: the first index varies fastest.
        data_offset: of the first value in the stream it is read from.
        file_offset: of the first value in the file itself; None if it is compressed.
    """

    path: Path
    member: str | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    data_offset: int
    file_offset: int | None

    @property
    def num_rows(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, step: int) -> Iterator[npt.NDArray[Any]]:
        """The rows in order, up to ``step`` at a time.

        Raises:
            CorruptDataError: the file is cut short.
        """
        with _stream(self.path, self.member) as file:
            _exactly(file, self.data_offset)
            if self.fortran:  # a row is scattered over the file, so all of it has to be in memory
                data = _exactly(file, self.num_rows * self.row_bytes)
                whole = np.frombuffer(data, dtype=self.dtype).reshape(self.shape, order="F")
                for first in range(0, self.num_rows, step):
                    yield np.ascontiguousarray(whole[first : first + step])
            else:
                for first in range(0, self.num_rows, step):
                    count = min(step, self.num_rows - first)
                    data = _exactly(file, count * self.row_bytes)
                    yield np.frombuffer(data, dtype=self.dtype).reshape(count, *self.shape[1:])
            if file.read(1):
                raise CorruptDataError("has bytes after the end of its array; expected one array")


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of an ``.npz`` archive by name, or ``{"": array}`` of an ``.npy`` file.

    Raises:
        CorruptDataError: it is neither, or an array cannot be used; the message says why.
        zipfile.BadZipFile: the archive is damaged.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    if start == MAGIC:
        return {"": _npy(path)}
    if not start.startswith(b"PK"):
        raise CorruptDataError("is neither an .npy file nor an .npz archive")
    arrays = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in arrays:
                raise CorruptDataError(f"member {info.filename!r} is no array of its own; expected distinct .npy names")
            with archive.open(info) as member:
                array = _read_header(member, path, info.filename)
            if array.data_offset + array.num_rows * array.row_bytes != info.file_size:
                raise CorruptDataError(f"array {name!r} does not have as many bytes as its header says")
            arrays[name] = _placed(array, _member_offset(raw, info))
    return arrays


def _npy(path: Path) -> StoredArray:
    size = path.stat().st_size
    with path.open("rb") as file:
        array = _read_header(file, path, None)
    expected = array.data_offset + array.num_rows * array.row_bytes
    if size != expected:
        raise CorruptDataError(f"has {size} bytes; expected {expected} for an array {array.shape} of {array.dtype}")
    return _placed(array, 0)


def _placed(array: StoredArray, member_offset: int | None) -> StoredArray:
    offset = None if member_offset is None else member_offset + array.data_offset
    return StoredArray(
        array.path, array.member, array.dtype, array.shape, array.fortran, array.data_offset, file_offset=offset
    )


def _member_offset(file: IO[bytes], info: zipfile.ZipInfo) -> int | None:
    """Where a stored member's bytes start in the archive."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        return None
    file.seek(info.header_offset)
    header = file.read(ZIP_HEADER_BYTES)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset + ZIP_HEADER_BYTES + lengths


def _literal(text: str) -> Any:
    """A Python literal. Python 3.11 counts the depth of what it parses for all threads together and may find that it
    does not add up when another thread parses too; the text is not at fault then."""
    for _ in range(PARSE_ATTEMPTS - 1):
        with contextlib.suppress(SystemError):
            return ast.literal_eval(text)
    return ast.literal_eval(text)


def _read_header(file: IO[bytes], path: Path, member: str | None) -> StoredArray:
    called = "its array" if member is None else f"array {member.removesuffix('.npy')!r}"
    start = _exactly(file, 8)
    version = start[6]
    if start[:6] != MAGIC or version not in (1, 2, 3):
        raise CorruptDataError(f"{called} does not start like an .npy file of version 1, 2 or 3")
    length_bytes = _exactly(file, 2 if version == 1 else 4)
    length = int.from_bytes(length_bytes, "little")
    if length > MAX_HEADER_BYTES:
        raise CorruptDataError(f"{called} has a header of {length} bytes; expected up to {MAX_HEADER_BYTES}")
    text = _exactly(file, length).decode("utf-8" if version == 3 else "latin1")
    try:
        header = _literal(text.strip())
        dtype, fortran, shape = np.lib.format.descr_to_dtype(header["descr"]), header["fortran_order"], header["shape"]
    except (SyntaxError, TypeError, KeyError, ValueError, MemoryError, RecursionError) as error:
        raise CorruptDataError(f"{called} has a damaged header: {error}") from error
    if not isinstance(shape, tuple) or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise CorruptDataError(f"{called} has the shape {shape!r}")
    if dtype.hasobject:
        raise CorruptDataError(f"{called} holds Python objects, which are never loaded; save numbers or bytes instead")
    if not shape:
        raise CorruptDataError(f"{called} is a single value; expected an array with one row per sample")
    offset = len(start) + len(length_bytes) + length
    return StoredArray(path, member, dtype, shape, bool(fortran) and len(shape) > 1, offset, None)


def _stream(path: Path, member: str | None) -> IO[bytes]:
    if member is None:
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:
        return archive.open(member)  # keeps the file open by itself


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise CorruptDataError("is cut short: it ends within an array")
    return data
