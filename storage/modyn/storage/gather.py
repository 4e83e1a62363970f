"""Gathering rows from several record batches into one, in any order, a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array


def gather(parts: Sequence[pa.RecordBatch], part_of_row: Int64Array, row_in_part: Int64Array) -> pa.RecordBatch:
    """Row ``i`` of the result is row ``row_in_part[i]`` of ``parts[part_of_row[i]]``.

    Args:
        parts: batches of one schema, at least one.
        part_of_row: int64 [n].
        row_in_part: int64 [n]; not checked against the batch's length.

    Fixed-width columns without nulls are gathered through NumPy, each value copied once; other columns by Arrow's
    ``take`` on single chunks. Consecutive rows of one part are not copied at all.
    """
    pieces = _pieces(part_of_row, row_in_part)
    if not pieces:
        return parts[0].slice(0, 0)
    if len(pieces) == 1:
        part, _, rows = pieces[0]
        return take(parts[part], rows)
    columns = [
        _gather_column([parts[part].column(index) for part, _, _ in pieces], pieces, len(part_of_row))
        for index in range(parts[0].num_columns)
    ]
    return pa.record_batch(columns, schema=parts[0].schema)


def take(batch: pa.RecordBatch, rows: Int64Array | slice) -> pa.RecordBatch:
    """Some rows of one batch; a run of consecutive rows is a view."""
    if not isinstance(rows, slice):
        rows = as_slice(rows)
    if isinstance(rows, slice):
        return batch.slice(rows.start, rows.stop - rows.start)
    return pa.record_batch([take_column(column, rows) for column in batch.columns], schema=batch.schema)


def take_column(column: pa.Array, rows: Int64Array) -> pa.Array:
    """``column[rows]``, rows unchecked."""
    values = _matrix(column)
    if values is None:
        return column.take(pa.array(rows))
    return _from_matrix(column.type, np.take(values, rows, axis=0, mode="clip"))  # "clip" skips NumPy's buffering


def as_slice(rows: Int64Array) -> Int64Array | slice:
    """The rows as a slice if they are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (len(rows) == 1 or bool((np.diff(rows) == 1).all())):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def rows_of_ranges(starts: Int64Array, ends: Int64Array) -> Int64Array:
    """All integers of ``[starts[i], ends[i])``, one range after the other."""
    lengths = ends - starts
    shifts = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    rows: Int64Array = np.arange(int(lengths.sum()), dtype=np.int64) + shifts
    return rows


_Piece = tuple[int, Int64Array, Int64Array]
"""A part, the places of its rows in the result, and the rows within the part."""


def _pieces(part_of_row: Int64Array, row_in_part: Int64Array) -> list[_Piece]:
    if len(part_of_row) == 0:
        return []
    places = np.arange(len(part_of_row), dtype=np.int64)
    if not bool((np.diff(part_of_row) >= 0).all()):
        places = np.argsort(part_of_row, kind="stable")
    parts = part_of_row[places]
    starts = np.flatnonzero(np.concatenate(([True], np.diff(parts) != 0)))
    ends = np.append(starts[1:], len(parts))
    return [
        (int(parts[start]), places[start:end], row_in_part[places[start:end]])
        for start, end in zip(starts, ends, strict=True)
    ]


def _gather_column(columns: list[pa.Array], pieces: list[_Piece], length: int) -> pa.Array:
    matrices = [_matrix(column) for column in columns]
    first = matrices[0]
    if first is not None and all(matrix is not None for matrix in matrices):
        out = np.empty((length, *first.shape[1:]), dtype=first.dtype)
        for matrix, (_, places, rows) in zip(matrices, pieces, strict=True):
            assert matrix is not None  # checked above
            out[places] = matrix[rows]
        return _from_matrix(columns[0].type, out)
    taken = []
    for column, (_, _, rows) in zip(columns, pieces, strict=True):
        run = as_slice(rows)
        whole = column.slice(run.start, run.stop - run.start) if isinstance(run, slice) else take_column(column, rows)
        taken.append(whole)
    joined = pa.concat_arrays(taken)
    places = np.concatenate([places for _, places, _ in pieces])
    if bool((np.diff(places) == 1).all()):
        return joined
    inverse = np.empty(length, dtype=np.int64)
    inverse[places] = np.arange(length)
    return take_column(joined, inverse)


def _matrix(column: pa.Array) -> npt.NDArray[Any] | None:
    """The values as NumPy [n] or [n, width] without a copy; None where Arrow has to do the work."""
    kind = column.type
    if column.null_count or len(column) == 0:
        return None
    if pa.types.is_fixed_size_binary(kind):
        data = column.buffers()[1]
        values = np.frombuffer(
            data, dtype=np.uint8, count=len(column) * kind.byte_width, offset=column.offset * kind.byte_width
        )
        return values.reshape(len(column), kind.byte_width)
    if pa.types.is_fixed_size_list(kind):
        items = column.flatten()
        inner = _matrix(items) if pa.types.is_primitive(kind.value_type) and kind.list_size else None
        return None if inner is None else inner.reshape(len(column), kind.list_size)
    if pa.types.is_primitive(kind) and kind.bit_width in (8, 16, 32, 64):
        if pa.types.is_temporal(kind):
            column = column.view(pa.int64() if kind.bit_width == 64 else pa.int32())
        numbers: npt.NDArray[Any] = column.to_numpy(zero_copy_only=True)
        return numbers
    return None


def _from_matrix(kind: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(values)
    data = pa.py_buffer(values)
    if pa.types.is_fixed_size_list(kind):
        items = pa.Array.from_buffers(kind.value_type, values.size, [None, data])
        return pa.FixedSizeListArray.from_arrays(items, type=kind)
    return pa.Array.from_buffers(kind, len(values), [None, data])
