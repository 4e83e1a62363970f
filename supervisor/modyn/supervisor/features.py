"""Raw columns of samples as one matrix of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.triggers import Features
from modyn.models.parsers.payload import byte_matrix, is_numeric

_WHO = "trigger"


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column is a fixed number of numbers per sample: a number, a boolean, a list of a fixed length of them,
    or bytes of a fixed length."""
    if pa.types.is_fixed_size_list(kind):
        return is_numeric(kind.value_type)
    return is_numeric(kind) or bool(pa.types.is_fixed_size_binary(kind))


def matrix_of(columns: Mapping[str, pa.Array], names: Sequence[str]) -> Features:
    """Columns side by side, float32 [n, d].

    >>> matrix_of({"a": pa.array([1, 2]), "b": pa.array([b"x1", b"y2"], pa.binary(2))}, ["b", "a"]).tolist()
    [[120.0, 49.0, 1.0], [121.0, 50.0, 2.0]]

    Args:
        columns: payload columns, [n] each.
        names: of some of them, in the order wanted.

    Raises:
        InvalidInputError: one holds no numbers, or misses some.
    """
    parts = [_part(columns[name], name, columns) for name in names]
    matrix: Features = np.concatenate(parts, axis=1)
    return matrix


def _part(column: pa.Array, name: str, columns: Mapping[str, pa.Array]) -> Features:
    if not holds_numbers(column.type):
        fitting = [key for key, other in columns.items() if holds_numbers(other.type)]
        hint = f"; of the columns asked for, these do: {', '.join(fitting)}" if fitting else ""
        raise InvalidInputError(
            f"{_WHO}: column {name!r} is {column.type}, which is no fixed number of numbers per sample{hint}"
        )
    listed = pa.types.is_fixed_size_list(column.type)
    values = column.flatten() if listed else column
    if column.null_count or values.null_count:
        missing = column.null_count or values.null_count
        raise InvalidInputError(f"{_WHO}: column {name!r} has {missing} missing values; fill or drop them")
    if pa.types.is_fixed_size_binary(column.type):
        return byte_matrix(column, name, _WHO).astype(np.float32)
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float32)
    width = column.type.list_size if listed else 1
    matrix: Features = numbers.reshape(len(column), width)
    return matrix
