"""Text as padded ids of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.draws import Uint64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS, Inputs, Parser
from modyn.models.parsers.payload import Columns, column, is_binary
from modyn.models.parsers.ragged import (
    as_text,
    decoded,
    flat_bytes,
    flat_list,
    hashed_slices,
    hashed_texts,
    is_list,
    is_text,
    padded,
    tokens_of,
)

_WHO = "parser text"
_BYTE_IDS = 257  # 256 bytes and the padding


@PARSERS.register("text")
class TextParser(Parser):
    """Text as ``ids``, int64 [n, length], and ``mask``, bool [n, length], which is false where there is padding.

    There is no vocabulary to build or to download: the id of a token is a hash of it, from 1 to vocabulary_size - 1,
    so two tokens may share one; id 0 is padding. The column may also hold lists of tokens (texts, which are hashed) or
    of ids (integers, which are taken as they are).

    >>> import pyarrow as pa
    >>> parser = TextParser(tokens="bytes", max_length=4)
    >>> parser.parse({"text": pa.array(["Ab", "hello"])})["ids"].tolist()
    [[98, 99, 0, 0], [105, 102, 109, 109]]
    """

    column: str | None = Field(None, description="The payload column; the only one of text, bytes or lists if unset.")
    tokens: Literal["words", "characters", "bytes"] = Field(
        "words",
        description="What a token is. words: letters, digits and underscores that stand together (all characters "
        "beyond ASCII count as letters); bytes: their ids are 1 to 256, not hashed.",
    )
    vocabulary_size: int = Field(2**15, ge=2, lt=2**31, description="Number of ids, padding included.")
    max_length: PositiveInt = Field(256, description="Tokens of a sample; what is beyond is cut.")
    lowercase: bool = Field(True, description="Whether upper and lower case are the same; not for lists.")
    padding: Literal["max_length", "longest"] = Field(
        "max_length",
        description="Pad to max_length, or to the longest sample of the batch: less to compute, but batches of "
        "different lengths, which downsampling cannot join.",
    )

    @model_validator(mode="after")
    def _check_bytes(self) -> TextParser:
        if self.tokens == "bytes" and self.vocabulary_size < _BYTE_IDS:
            raise ValueError(f"tokens: bytes needs a vocabulary_size of at least {_BYTE_IDS}")
        return self

    def reads(self) -> tuple[str, ...]:
        return () if self.column is None else (self.column,)

    @property
    def separable(self) -> bool:
        return self.padding == "max_length"

    def parse(self, columns: Mapping[str, pa.Array]) -> Inputs:
        name = self.column or _only_column(columns)
        array = decoded(column(columns, name, _WHO))
        ids, offsets = self._of_lists(array, name) if is_list(array.type) else self._of_texts(array, name)
        width = self.max_length if self.padding == "max_length" else None
        rows, mask = padded(ids, offsets, self.max_length, width)
        return {"ids": rows, "mask": mask}

    def _of_texts(self, array: pa.Array, name: str) -> tuple[Int64Array, Int64Array]:
        """Ids of all tokens, and where each text's begin."""
        texts = as_text(array, name, _WHO)
        data, offsets = flat_bytes(pc.utf8_lower(texts) if self.lowercase else texts)
        if self.tokens == "bytes":
            return data.astype(np.int64) + 1, offsets
        starts, ends, offsets = tokens_of(data, offsets, self.tokens)
        return self._hashed(hashed_slices(data, starts, ends)), offsets

    def _of_lists(self, array: pa.Array, name: str) -> tuple[Int64Array, Int64Array]:
        values, offsets = flat_list(array)
        if values.null_count:
            raise InvalidInputError(f"{_WHO}: column {name!r} has missing values in its lists; fill or drop them")
        if is_text(values.type) or is_binary(values.type):
            return self._hashed(hashed_texts(values)), offsets
        if not pa.types.is_integer(values.type):
            raise InvalidInputError(f"{_WHO}: column {name!r} is {array.type}; expected lists of ids or of tokens")
        ids = values.to_numpy(zero_copy_only=False).astype(np.int64)
        if (odd := np.flatnonzero((ids < 0) | (ids >= self.vocabulary_size))).size:
            raise InvalidInputError(
                f"{_WHO}: column {name!r} has the id {int(ids[odd[0]])}; expected 0 to {self.vocabulary_size - 1}, or "
                "a larger vocabulary_size"
            )
        return ids, offsets

    def _hashed(self, hashes: Uint64Array) -> Int64Array:
        return (hashes % np.uint64(self.vocabulary_size - 1)).astype(np.int64) + 1


def _only_column(columns: Columns) -> str:
    fits = [name for name, array in columns.items() if _fits(array.type)]
    if len(fits) != 1:
        payload = ", ".join(f"{name}: {array.type}" for name, array in columns.items())
        raise InvalidInputError(
            f"{_WHO}: expected exactly one column of text, bytes or lists, the payload has ({payload})"
        )
    return fits[0]


def _fits(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return is_text(kind) or is_binary(kind) or is_list(kind)
