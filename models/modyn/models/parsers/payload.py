"""What parsers share: finding the payload column, and fixed-width bytes as a matrix without a copy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator

from modyn.core.errors import InvalidInputError

Columns = Mapping[str, pa.Array]
Float32Array = npt.NDArray[np.float32]


def _positive(values: list[float]) -> list[float]:
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError("expected numbers greater than zero")
    return values


Deviations = Annotated[list[float], AfterValidator(_positive)]
"""Standard deviations to divide by."""


def is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def column(columns: Columns, name: str, parser: str) -> pa.Array:
    """A payload column without nulls.

    Raises:
        InvalidInputError: there is none of that name, or it has nulls.
    """
    if name not in columns:
        raise InvalidInputError(f"{parser}: no column {name!r} in the payload; it has {', '.join(columns)}")
    array = columns[name]
    if array.null_count:
        raise InvalidInputError(f"{parser}: column {name!r} has {array.null_count} missing values; fill or drop them")
    return array


def single_binary(columns: Columns, name: str | None, parser: str) -> tuple[str, pa.Array]:
    """The named column of bytes, or the only one there is.

    Raises:
        InvalidInputError: it is missing, not unique or not binary.
    """
    if name is None:
        candidates = [key for key, array in columns.items() if is_binary(array.type)]
        if len(candidates) != 1:
            payload = ", ".join(f"{key}: {array.type}" for key, array in columns.items())
            raise InvalidInputError(f"{parser}: expected exactly one column of bytes, the payload has ({payload})")
        name = candidates[0]
    array = column(columns, name, parser)
    if not is_binary(array.type):
        raise InvalidInputError(f"{parser}: column {name!r} is {array.type}; expected bytes (binary)")
    return name, array


def byte_matrix(array: pa.Array, name: str, parser: str, width: int | None = None) -> npt.NDArray[np.uint8]:
    """Values of one width as uint8 [n, width], without a copy.

    Args:
        array: binary Arrow array [n] without nulls.
        name: its column, for messages.
        parser: who asks, for messages.
        width: expected bytes per value; None takes what the first has.

    Raises:
        InvalidInputError: values of another or of different widths.
    """
    count = len(array)
    if count == 0:
        return np.empty((0, width or 0), dtype=np.uint8)
    if pa.types.is_fixed_size_binary(array.type):
        size = array.type.byte_width
        lengths = np.array([size])
        start, data = array.offset * size, array.buffers()[1]
    else:
        dtype = np.int64 if pa.types.is_large_binary(array.type) else np.int32
        offsets = np.frombuffer(array.buffers()[1], dtype=dtype)[array.offset : array.offset + count + 1]
        lengths = np.diff(offsets)
        start, data = int(offsets[0]), array.buffers()[2]
    width = int(lengths[0]) if width is None else width
    if (odd := np.flatnonzero(lengths != width)).size:
        raise InvalidInputError(
            f"{parser}: column {name!r} has a sample of {int(lengths[odd[0]])} bytes; expected {width} for every sample"
        )
    if width == 0:
        return np.empty((count, 0), dtype=np.uint8)
    return np.frombuffer(data, dtype=np.uint8, count=count * width, offset=start).reshape(count, width)


def normalise(
    values: Float32Array, mean: Sequence[float] | None, std: Sequence[float] | None, axis: int, parser: str
) -> Float32Array:
    """``(values - mean) / std`` along one axis, in place.

    Raises:
        InvalidInputError: a list is neither of length 1 nor as long as the axis.
    """
    for key, numbers in (("mean", mean), ("std", std)):
        if numbers is None:
            continue
        if len(numbers) not in {1, values.shape[axis]}:
            raise InvalidInputError(
                f"{parser}: {key} has {len(numbers)} numbers; expected 1 or {values.shape[axis]}, one per feature"
            )
        shape: list[Any] = [1] * values.ndim
        shape[axis] = len(numbers)
        operand = np.asarray(numbers, dtype=np.float32).reshape(shape)
        if key == "mean":
            values -= operand
        else:
            values /= operand
    return values


def reshaped(values: Float32Array, shape: Sequence[int] | None, parser: str) -> Float32Array:
    """Rows in the asked-for shape: [n, k] -> [n, *shape].

    Raises:
        InvalidInputError: k is not the product of the shape.
    """
    if shape is None:
        return values
    if math.prod(shape) != values.shape[1]:
        raise InvalidInputError(
            f"{parser}: a sample has {values.shape[1]} numbers; shape {list(shape)} needs {math.prod(shape)}"
        )
    return values.reshape(len(values), *shape)
