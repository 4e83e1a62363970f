"""Named columns: numbers as one float32 matrix, categories as hashed ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS, Inputs, Parser
from modyn.models.parsers.payload import (
    Columns,
    Deviations,
    Float32Array,
    column,
    is_binary,
    is_numeric,
    normalise,
    reshaped,
)
from modyn.models.parsers.ragged import decoded, hashed_integers, hashed_texts, is_text

_WHO = "parser columns"
NUMERIC = "numeric"
"""Name of the matrix of numbers where there are categories beside it."""

Buckets = Annotated[int, Field(gt=0, lt=2**31)]


@PARSERS.register("columns")
class ColumnsParser(Parser):
    """Numeric columns as float32 [n, features]; the default where all payload columns are numbers.

    Columns of integers, floats and booleans are one feature each, fixed-size lists of numbers several. With
    ``categorical``, the inputs are a mapping: ``numeric`` is that matrix of the other columns (absent if there are
    none), and each categorical column is int64 [n] under its own name, the hash of its value modulo its buckets.

    >>> import pyarrow as pa
    >>> ColumnsParser(columns=["b", "a"], scale=0.5).parse({"a": pa.array([1, 2]), "b": pa.array([3.0, 4.0])})
    array([[1.5, 0.5],
           [2. , 1. ]], dtype=float32)
    >>> parser = ColumnsParser(columns=["age"], categorical={"city": 1000})
    >>> inputs = parser.parse({"age": pa.array([30, 40]), "city": pa.array(["Bern", "Genf"])})
    >>> inputs["numeric"].shape, inputs["city"].tolist()
    ((2, 1), [209, 246])
    """

    columns: list[str] | None = Field(
        None,
        min_length=1,
        description="Numeric columns in this order; all that are not categorical, as stored, if unset.",
    )
    categorical: dict[str, Buckets] = Field(
        {},
        description="Columns of categories (texts, bytes, integers or booleans) and into how many buckets each is "
        "hashed, such as {city: 1000}.",
    )
    scale: float = Field(1.0, description="Factor on every number, before mean and std.")
    mean: list[float] | None = Field(None, description="Subtracted: one number per feature, or one for all.")
    std: Deviations | None = Field(None, description="Divided by, after mean: one number per feature, or one for all.")
    shape: list[PositiveInt] | None = Field(None, description="Shape of one sample, such as [1, 8, 8]; flat if unset.")

    @model_validator(mode="after")
    def _check_names(self) -> ColumnsParser:
        if NUMERIC in self.categorical:
            raise ValueError(f"a categorical column cannot be called {NUMERIC!r}, as the numbers are; rename it")
        if both := sorted({*(self.columns or ())} & self.categorical.keys()):
            raise ValueError(f"{', '.join(both)}: expected either in columns or in categorical")
        return self

    def reads(self) -> tuple[str, ...]:
        return () if self.columns is None else (*self.columns, *self.categorical)

    @property
    def separable(self) -> bool:
        return True

    def parse(self, columns: Mapping[str, pa.Array]) -> Inputs:
        names = self.columns or [name for name in columns if name not in self.categorical]
        if not self.categorical:
            return self._numbers(columns, names)
        inputs: dict[str, npt.NDArray[np.generic]] = {NUMERIC: self._numbers(columns, names)} if names else {}
        for name, buckets in self.categorical.items():
            inputs[name] = _categories(columns, name, buckets)
        return inputs

    def _numbers(self, columns: Columns, names: list[str]) -> Float32Array:
        parts = [_features(columns, name) for name in names]
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
            f"{_WHO}: column {name!r} is {array.type}; expected numbers. Hash it with data.parser.categorical "
            f"({{{name}: 1000}}), leave it out with data.parser.columns, or encode it in a parser of your own"
        )
    vector: npt.NDArray[np.generic] = array.to_numpy(zero_copy_only=False)
    return vector


def _categories(columns: Columns, name: str, buckets: int) -> Int64Array:
    """Buckets of the values of one column, int64 [n]."""
    array = decoded(column(columns, name, _WHO))
    kind = array.type
    if is_text(kind) or is_binary(kind):
        hashes = hashed_texts(array)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        hashes = hashed_integers(array.to_numpy(zero_copy_only=False))
    else:
        raise InvalidInputError(
            f"{_WHO}: categorical column {name!r} is {kind}; expected texts, bytes, integers or booleans"
        )
    return (hashes % np.uint64(buckets)).astype(np.int64)
