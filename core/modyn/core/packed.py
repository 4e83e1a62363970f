"""Columns of whole numbers inside plain data: small as JSON, NumPy arrays in memory."""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from modyn.core.arrow import Int64Array


def pack(column: Int64Array) -> str:
    """Text of an int64 column [n]: differences of neighbours, compressed (about a byte a number for keys in order)."""
    differences = np.diff(column.astype("<i8"), prepend=np.int64(0))
    return base64.b64encode(zlib.compress(differences.tobytes(), 1)).decode()


def unpack(text: str) -> Int64Array:
    """The column that :func:`pack` made a text of.

    >>> unpack(pack(np.array([7, 8, 5]))).tolist()
    [7, 8, 5]
    """
    differences = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i8")
    column: Int64Array = np.cumsum(differences, dtype=np.int64)
    return column


def _validated(value: Any) -> Int64Array:
    column = unpack(value) if isinstance(value, str) else np.asarray(value, dtype=np.int64)
    column.flags.writeable = False
    return column


Int64Column = Annotated[
    Any,
    PlainValidator(_validated),
    PlainSerializer(pack, return_type=str),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""A pydantic field that holds an int64 array [n]."""

EMPTY = np.empty(0, dtype=np.int64)
