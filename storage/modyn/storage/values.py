"""Columns as the places of their values in memory: what :mod:`modyn.storage.gather` copies rows from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.storage.parts import FileColumn, PayloadColumn, Strided

Extent = tuple[Int64Array, Int64Array | int]
"""Addresses and numbers of bytes."""


class Bitmap(NamedTuple):
    """One bit a value, least significant first; ``data`` is None where all are zero."""

    data: npt.NDArray[np.uint8] | None
    offset: int

    def take(self, rows: Int64Array) -> npt.NDArray[np.bool_]:
        if self.data is None:
            return np.zeros(len(rows), dtype=bool)
        bits = rows + self.offset
        taken: npt.NDArray[np.bool_] = (self.data[bits >> 3] >> (bits & 7).astype(np.uint8) & 1).view(np.bool_)
        return taken


@dataclass(frozen=True, eq=False)
class Fixed:
    """n values of one width.

    Attributes:
        values: void [n] of the width, at any regular distance.
        valid: None where no value is null.
        array: the same as Arrow, if it is.
    """

    values: npt.NDArray[np.void]
    valid: Bitmap | None = None
    array: pa.Array | None = None

    @property
    def width(self) -> int:
        return self.values.dtype.itemsize

    @property
    def stride(self) -> int:
        return self.values.strides[0]

    @cached_property
    def address(self) -> int:
        address: int = self.values.__array_interface__["data"][0]
        return address

    @cached_property
    def buffer(self) -> pa.Buffer:
        """From the first byte of the first value to the last of the last."""
        size = (len(self.values) - 1) * self.stride + self.width if len(self.values) else 0
        return pa.foreign_buffer(self.address, size, base=self.values)

    def sizes(self, rows: Int64Array) -> Int64Array | int:
        return self.width

    def extents(self, rows: Int64Array) -> Iterator[Extent]:
        if self.stride:
            yield self.address + rows * self.stride, self.width


@dataclass(frozen=True, eq=False)
class Bits:
    """n booleans."""

    values: Bitmap
    valid: Bitmap | None
    array: pa.Array

    def sizes(self, rows: Int64Array) -> Int64Array | int:
        return 1

    def extents(self, rows: Int64Array) -> Iterator[Extent]:
        return iter(())


@dataclass(frozen=True, eq=False)
class Ragged:
    """n byte strings or texts.

    Attributes:
        offsets: [n + 1], of the first byte of each in ``data``.
    """

    offsets: npt.NDArray[Any]
    data: pa.Buffer
    valid: Bitmap | None
    array: pa.Array | None

    @property
    def buffer(self) -> pa.Buffer:
        return self.data

    def bounds(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """First byte and length of values; nulls have none."""
        starts = self.offsets[rows].astype(np.int64)
        lengths = self.offsets[rows + 1] - starts
        if self.valid is not None:
            lengths *= self.valid.take(rows)
        return starts, lengths

    def sizes(self, rows: Int64Array) -> Int64Array | int:
        return self.bounds(rows)[1]

    def extents(self, rows: Int64Array) -> Iterator[Extent]:
        if self.offsets.strides[0] == 0:
            return
        item = self.offsets.itemsize
        address: int = self.offsets.__array_interface__["data"][0]
        yield address + rows * item, 2 * item
        starts, lengths = self.bounds(rows)
        yield starts + self.data.address, lengths


@dataclass(frozen=True, eq=False)
class Other:
    """Whatever Arrow has to gather itself."""

    array: pa.Array

    def sizes(self, rows: Int64Array) -> Int64Array | int:
        return int(self.array.nbytes) // max(1, len(self.array)) + 1

    def extents(self, rows: Int64Array) -> Iterator[Extent]:
        return iter(())


@dataclass(frozen=True, eq=False)
class Files:
    """n byte strings that are a file each."""

    files: FileColumn
    array: None = None

    def sizes(self, rows: Int64Array) -> Int64Array | int:
        sizes: Int64Array = self.files.sizes[rows]
        return sizes

    def extents(self, rows: Int64Array) -> Iterator[Extent]:
        return iter(())


Values = Fixed | Bits | Ragged | Other | Files


def values_of(column: PayloadColumn, kind: pa.DataType) -> Values:
    """A column as values of a type; a column of type ``null`` stands for one that has none yet."""
    if isinstance(column, FileColumn):
        return Files(column)
    if isinstance(column, Strided):
        return Fixed(column.values.view(np.dtype((np.void, column.values.shape[1])))[:, 0])
    if pa.types.is_null(column.type):
        return _missing(kind, len(column))
    return _arrow_values(column) if len(column) else Other(column)


def _arrow_values(column: pa.Array) -> Values:
    kind = column.type
    valid = _validity(column)
    width = fixed_width(kind)
    if width is not None and (found := _fixed_data(column, width)) is not None:
        data, offset = found
        return Fixed(np.frombuffer(data, np.dtype((np.void, width)), len(column), offset), valid, column)
    if pa.types.is_boolean(kind):
        return Bits(Bitmap(np.frombuffer(column.buffers()[1], dtype=np.uint8), column.offset), valid, column)
    if is_ragged(kind):
        _, positions, data = column.buffers()
        offsets = np.frombuffer(positions, offset_type(kind), column.offset + len(column) + 1)[column.offset :]
        return Ragged(offsets, data if data is not None else _NOTHING, valid, column)
    return Other(column)


_NOTHING = pa.py_buffer(b"")


def fixed_width(kind: pa.DataType) -> int | None:
    """Bytes of a value of a type whose values are whole bytes one after the other; None for other types."""
    if pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
    elif pa.types.is_fixed_size_list(kind):
        width = (fixed_width(kind.value_type) or 0) * kind.list_size
    elif (pa.types.is_primitive(kind) or pa.types.is_decimal(kind)) and not pa.types.is_boolean(kind):
        width = kind.bit_width // 8
    else:
        return None
    return width or None


def is_ragged(kind: pa.DataType) -> bool:
    return kind in _VIEW_OF


def offset_type(kind: pa.DataType) -> type[np.int32] | type[np.int64]:
    return np.int64 if kind in (pa.large_binary(), pa.large_string()) else np.int32


def view_type(kind: pa.DataType) -> pa.DataType:
    """The type whose values are references, from which Arrow casts to ``kind`` by copying the bytes."""
    return _VIEW_OF[kind]


_VIEW_OF = {
    pa.binary(): pa.binary_view(),
    pa.large_binary(): pa.binary_view(),
    pa.string(): pa.string_view(),
    pa.large_string(): pa.string_view(),
}


def from_fixed(kind: pa.DataType, length: int, data: pa.Buffer, valid: pa.Buffer | None = None) -> pa.Array:
    """An Arrow array of fixed-width values around their bytes."""
    if pa.types.is_fixed_size_list(kind):
        items = from_fixed(kind.value_type, length * kind.list_size, data)
        return pa.Array.from_buffers(kind, length, [valid], children=[items])
    return pa.Array.from_buffers(kind, length, [valid, data])


def _missing(kind: pa.DataType, length: int) -> Values:
    """Nulls of a type that take no memory, wherever that can be."""
    nothing = Bitmap(None, 0)
    if (width := fixed_width(kind)) is not None:
        zero = np.zeros(1, dtype=np.dtype((np.void, width)))
        return Fixed(np.lib.stride_tricks.as_strided(zero, (length,), (0,)), nothing)
    if is_ragged(kind):
        start = np.zeros(1, dtype=offset_type(kind))
        return Ragged(np.lib.stride_tricks.as_strided(start, (length + 1,), (0,)), _NOTHING, nothing, None)
    return Other(pa.nulls(length, kind))


def _validity(column: pa.Array) -> Bitmap | None:
    if column.null_count == 0:
        return None
    return Bitmap(np.frombuffer(column.buffers()[0], dtype=np.uint8), column.offset)


def _fixed_data(column: pa.Array, width: int) -> tuple[pa.Buffer, int] | None:
    """The bytes of fixed-width values and the place of the first; None if items of a value are null."""
    if not pa.types.is_fixed_size_list(column.type):
        return column.buffers()[1], column.offset * width
    items = column.values
    found = None if items.null_count else _fixed_data(items, width // column.type.list_size)
    return None if found is None else (found[0], found[1] + column.offset * width)
