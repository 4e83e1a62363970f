"""Samples of fixed-width binary numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveInt

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS, Inputs, Parser
from modyn.models.parsers.payload import Deviations, byte_matrix, normalise, reshaped, single_binary

_WHO = "parser numeric_record"

NumberType = Literal[
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"
]


@PARSERS.register("numeric_record")
class NumericRecordParser(Parser):
    """Bytes that hold numbers of one type, as float32 [n, numbers] or [n, *shape].

    >>> import pyarrow as pa
    >>> NumericRecordParser(dtype="uint8", shape=[1, 2], scale=0.5).parse({"data": pa.array([bytes([1, 2])])})
    array([[[0.5, 1. ]]], dtype=float32)
    """

    dtype: NumberType = Field("float32", description="Type of the numbers.")
    byteorder: Literal["little", "big"] = Field("little", description="Order of the bytes of one number.")
    skip_bytes: NonNegativeInt = Field(0, description="Bytes before the first number of a sample.")
    shape: list[PositiveInt] | None = Field(
        None, description="Shape of one sample, such as [1, 28, 28]; flat if unset."
    )
    scale: float = Field(1.0, description="Factor on every number, before mean and std.")
    mean: list[float] | None = Field(None, description="Subtracted: one number per feature, or one for all.")
    std: Deviations | None = Field(None, description="Divided by, after mean: one number per feature, or one for all.")
    column: str | None = Field(None, description="The payload column; the only one of bytes if unset.")

    def reads(self) -> tuple[str, ...]:
        return () if self.column is None else (self.column,)

    @property
    def separable(self) -> bool:
        return True

    def parse(self, columns: Mapping[str, pa.Array]) -> Inputs:
        name, array = single_binary(columns, self.column, _WHO)
        stored = np.dtype(self.dtype).newbyteorder("<" if self.byteorder == "little" else ">")
        width = None
        if self.shape is not None:
            width = self.skip_bytes + int(np.prod(self.shape)) * stored.itemsize
        payload = byte_matrix(array, name, _WHO, width)[:, self.skip_bytes :]
        if payload.shape[1] % stored.itemsize:
            raise InvalidInputError(
                f"{_WHO}: column {name!r} has {payload.shape[1]} bytes of numbers per sample; "
                f"expected a multiple of {stored.itemsize} ({self.dtype})"
            )
        values = np.ascontiguousarray(payload).view(stored).astype(np.float32)  # always a copy: ours to change
        if self.scale != 1.0:
            values *= np.float32(self.scale)
        return reshaped(normalise(values, self.mean, self.std, 1, _WHO), self.shape, _WHO)
