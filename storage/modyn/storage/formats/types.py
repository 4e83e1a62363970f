"""Types of columns by name, for formats without types of their own."""

from __future__ import annotations

from typing import Annotated

import pyarrow as pa
from pydantic import AfterValidator

TYPE_NAMES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "string",
    "binary", "date32", "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]",
)  # fmt: skip


def _check(types: dict[str, str]) -> dict[str, str]:
    for column, name in types.items():
        if name not in TYPE_NAMES:
            raise ValueError(f"column {column!r}: {name!r} is no type; expected one of {', '.join(TYPE_NAMES)}")
    return types


ColumnTypes = Annotated[dict[str, str], AfterValidator(_check)]

TYPES_HELP = f"Types of columns by name: {', '.join(TYPE_NAMES)}."


def column_types(expected: pa.Schema | None, types: dict[str, str]) -> dict[str, pa.DataType]:
    """Types by column: those of the dataset so far, overruled by those that the source's section names."""
    known = {field.name: field.type for field in expected or () if not pa.types.is_null(field.type)}
    return known | {column: pa.type_for_alias(name) for column, name in types.items()}
