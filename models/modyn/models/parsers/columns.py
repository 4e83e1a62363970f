"""Named numeric columns as one float32 matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, PositiveInt

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS, Inputs, Parser
from modyn.models.parsers.payload import Columns, Deviations, Float32Array, column, is_numeric, normalise, reshaped

_WHO = "parser columns"


@PARSERS.register("columns")
class ColumnsParser(Parser):
    """Numeric columns as float32 [n, features]; the default where all payload columns are numbers.

    Columns of integers, floats and booleans are one feature each, fixed-size lists of numbers several.

    >>> import pyarrow as pa
    >>> ColumnsParser(columns=["b", "a"], scale=0.5).parse({"a": pa.array([1, 2]), "b": pa.array([3.0, 4.0])})
    array([[1.5, 0.5],
           [2. , 1. ]], dtype=float32)
    """

    columns: list[str] | None = Field(
        None, min_length=1, description="Columns in this order; all, as stored, if unset."
    )
    scale: float = Field(1.0, description="Factor on every number, before mean and std.")
    mean: list[float] | None = Field(None, description="Subtracted: one number per feature, or one for all.")
    std: Deviations | None = Field(None, description="Divided by, after mean: one number per feature, or one for all.")
    shape: list[PositiveInt] | None = Field(None, description="Shape of one sample, such as [1, 8, 8]; flat if unset.")

    def reads(self) -> tuple[str, ...]:
        return tuple(self.columns or ())

    def parse(self, columns: Mapping[str, pa.Array]) -> Inputs:
        parts = [_features(columns, name) for name in self.columns or columns]
        widths = [1 if part.ndim == 1 else part.shape[1] for part in parts]
        values: Float32Array = np.empty((len(parts[0]), sum(widths)), dtype=np.float32)
        position = 0
        for part, width in zip(parts, widths, strict=True):
            values[:, position : position + width] = part.reshape(len(part), width)
            position += width
        if self.scale != 1.0:
            values *= np.float32(self.scale)
        return reshaped(normalise(values, self.mean, self.std, 1, _WHO), self.shape, _WHO)


def _features(columns: Columns, name: str) -> npt.NDArray[np.generic]:
    """One column as an array [n], or [n, k] for lists of k numbers."""
    array = column(columns, name, _WHO)
    if pa.types.is_fixed_size_list(array.type) and is_numeric(array.type.value_type):
        values = array.flatten()
        if values.null_count:
            raise InvalidInputError(f"{_WHO}: column {name!r} has missing values in its lists; fill or drop them")
        matrix: npt.NDArray[np.generic] = values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
        return matrix
    if not is_numeric(array.type):
        raise InvalidInputError(
            f"{_WHO}: column {name!r} is {array.type}; expected numbers. Leave it out with data.parser.columns, "
            "or encode it in a parser of your own"
        )
    vector: npt.NDArray[np.generic] = array.to_numpy(zero_copy_only=False)
    return vector
