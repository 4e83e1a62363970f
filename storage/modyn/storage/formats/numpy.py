"""NumPy arrays in ``.npy`` files and ``.npz`` archives."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, FileSamples, FixedColumn, InPlaceSamples, RecordLayout, SourceFormat
from modyn.storage.formats.columnar import PIECE_BYTES, decoding, listed
from modyn.storage.formats.npy import StoredArray, stored_arrays
from modyn.storage.formats.records import FieldPlace, read_field
from modyn.storage.schema import normal_labels, unix_seconds

SINGLE_COLUMN = "x"
"""Payload column of a plain ``.npy`` file."""


@dataclass(frozen=True, eq=False)
class _Values:
    """A column: an array, or a field of a structured array."""

    array: StoredArray
    field: str | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """Of one sample's value."""
    offset: int
    """Of the field in its record, bytes."""


@FORMATS.register("numpy")
class NumpyFormat(SourceFormat):
    """NumPy files: row i is sample i.

    An ``.npy`` file is the payload column ``x``, or one column for each field of a structured array; an ``.npz``
    archive has one column for each array. Values of a sample with several dimensions are a list, the last one fastest.
    """

    default_pattern: ClassVar[str] = "**/*.{npy,npz}"

    arrays: list[str] | None = Field(
        None, min_length=1, description="Payload arrays or fields; by default all but label and timestamp."
    )
    label: str | None = Field(
        None, description="Array or field with the labels, NaN where one is missing; no labels by default."
    )
    timestamp: str | None = Field(
        None, description="Array or field with the event time (Unix seconds or datetime64); the file's by default."
    )
    pack: bool = Field(False, description="Copy the samples at ingest instead of reading them in the files.")

    @model_validator(mode="after")
    def _arrays_do_not_clash(self) -> NumpyFormat:
        if self.arrays is not None and len(set(self.arrays)) < len(self.arrays):
            raise ValueError("an array stands twice in `arrays`")
        if self.label is not None and self.label == self.timestamp:
            raise ValueError(f"array {self.label!r} cannot be both `label` and `timestamp`")
        return self

    @property
    def has_times(self) -> bool:
        return self.timestamp is not None

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        with _decoding():
            columns = self._columns(path)
            stored = list({id(values.array): values.array for values in columns.values()}.values())
            step = max(1, PIECE_BYTES // max(1, sum(array.row_bytes for array in stored)))
            for rows in zip(*(array.rows(step) for array in stored), strict=True):
                piece = {id(array): part for array, part in zip(stored, rows, strict=True)}
                found = {
                    name: to_arrow(_field(piece[id(values.array)], values), name) for name, values in columns.items()
                }
                payload = self._payload(list(columns))
                batch = pa.record_batch([found[name] for name in payload], names=payload)
                yield FileSamples(batch, *self._labels_and_times(found))

    def in_place(self, path: Path) -> InPlaceSamples | None:
        if self.pack:
            return None
        with _decoding():
            columns = self._columns(path)
            fixed = [_fixed(name, columns[name]) for name in self._payload(list(columns))]
            placed = [column for column in fixed if column is not None]
            others = {name: columns[name] for name in (self.label, self.timestamp) if name is not None}
            if len(placed) < len(fixed) or any(values.array.file_offset is None for values in others.values()):
                return None
            labels, times = self._labels_and_times({name: _loaded(values, name) for name, values in others.items()})
        rows = next(iter(columns.values())).array.num_rows
        schema = pa.schema([(column.name, column.type) for column in placed])
        return InPlaceSamples(RecordLayout(rows, tuple(placed)), rows, schema, labels, times)

    def _labels_and_times(self, found: dict[str, pa.Array]) -> tuple[pa.Array | None, Int64Array | None]:
        labels = None if self.label is None else normal_labels(found[self.label], self.label)
        return labels, None if self.timestamp is None else unix_seconds(found[self.timestamp], self.timestamp)

    def _payload(self, names: list[str]) -> list[str]:
        return self.arrays or [name for name in names if name not in (self.label, self.timestamp)]

    def _columns(self, path: Path) -> dict[str, _Values]:
        """The columns that are needed, by name; all have equally many rows.

        Raises:
            CorruptDataError: one is missing or cannot be a column.
        """
        arrays = stored_arrays(path)
        found = _columns_of(arrays)
        names = [*self._payload(list(found)), *(name for name in (self.label, self.timestamp) if name is not None)]
        for name in names:
            if name not in found:
                raise CorruptDataError(f"array {name!r} is missing; the file has {listed(list(found))}")
        if len(names) == len({self.label, self.timestamp} - {None}):
            raise CorruptDataError("there is no payload array; expected at least one beside label and timestamp")
        columns = {name: found[name] for name in dict.fromkeys(names)}
        rows = {name: values.array.num_rows for name, values in columns.items()}
        if len(set(rows.values())) > 1:
            shown = ", ".join(f"{name}: {count}" for name, count in rows.items())
            raise CorruptDataError(f"arrays differ in their number of rows ({shown}); expected one row per sample")
        return columns


def to_arrow(values: npt.NDArray[Any], name: str) -> pa.Array:
    """Values of n samples, NumPy [n, …], as Arrow: numbers, times, bytes or text, or fixed-size lists of numbers.

    Raises:
        CorruptDataError: there is no such Arrow type.
    """
    size = math.prod(values.shape[1:])
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
    if values.dtype.kind == "V" and values.dtype.names is None:
        data = pa.py_buffer(values.view(np.uint8))
        items = pa.Array.from_buffers(pa.binary(values.dtype.itemsize), values.size, [None, data])
    else:
        try:
            items = pa.array(values.reshape(-1))
        except (pa.ArrowException, TypeError) as error:
            raise CorruptDataError(f"array {name!r} of {values.dtype} cannot be a column: {error}") from error
    if values.ndim == 1:
        return items
    if size == 0:
        raise CorruptDataError(f"array {name!r} has rows without values (shape {values.shape})")
    return pa.FixedSizeListArray.from_arrays(items, size)


def _columns_of(arrays: dict[str, StoredArray]) -> dict[str, _Values]:
    """Every array and field by the name of its column."""
    found: dict[str, _Values] = {}
    for name, array in arrays.items():
        if array.dtype.names is None:
            found[name or SINGLE_COLUMN] = _Values(array, None, array.dtype, array.shape[1:], 0)
            continue
        if name:
            raise CorruptDataError(f"array {name!r} is structured; expected that of an .npy file only, or plain arrays")
        for field in array.dtype.names:
            kind, offset = array.dtype.fields[field][:2]  # type: ignore[index]
            if kind.base.names is not None:
                raise CorruptDataError(f"field {field!r} has fields of its own; expected numbers, times, bytes or text")
            found[field] = _Values(array, field, kind.base, (*array.shape[1:], *kind.shape), offset)
    return found


def _field(rows: npt.NDArray[Any], values: _Values) -> npt.NDArray[Any]:
    return rows if values.field is None else rows[values.field]


def _fixed(name: str, values: _Values) -> FixedColumn | None:
    """Where a column's values lie; None if they are not stored as in Arrow."""
    array = values.array
    native = values.dtype.isnative and values.dtype.kind in "iufV" and values.dtype.itemsize <= 8
    opaque = values.dtype.kind == "V" and values.dtype.names is None
    scattered = array.fortran or (values.field is not None and len(array.shape) > 1)
    if not (native or opaque) or scattered or array.file_offset is None or not array.row_bytes:
        return None
    width = values.dtype.itemsize * math.prod(values.shape)
    kind = to_arrow(np.zeros((0, *values.shape), dtype=values.dtype), name).type
    return FixedColumn(name, kind, width, array.file_offset + values.offset, array.row_bytes)


def _loaded(values: _Values, name: str) -> pa.Array:
    """A whole column, without what lies between its values."""
    array = values.array
    if array.fortran or (values.field is not None and len(array.shape) > 1):
        return to_arrow(_field(next(array.rows(max(1, array.num_rows))), values), name)
    width = values.dtype.itemsize * math.prod(values.shape)
    offset = (array.file_offset or 0) + values.offset
    data = read_field(array.path, FieldPlace(array.num_rows, offset, width, array.row_bytes))
    return to_arrow(data.view(values.dtype).reshape(array.num_rows, *values.shape), name)


@contextmanager
def _decoding() -> Iterator[None]:
    with decoding("NumPy arrays"):
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise CorruptDataError(f"cannot be read as NumPy arrays: {error}") from error
