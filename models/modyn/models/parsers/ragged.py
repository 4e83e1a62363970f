"""Values of different lengths as flat arrays with offsets: texts, their tokens, hashes, padding. No loop over samples.

Strings are hashed by a multilinear form over their bytes modulo 2**64 (Lemire and Kaser, "Strongly universal string
hashing is fast", The Computer Journal 2014) whose odd coefficients are the SplitMix64 sequence, and mixed. Integers
are mixed only. Both are part of what models learn, so they must never change.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.draws import Uint64Array, mixed
from modyn.core.errors import InvalidInputError
from modyn.models.parsers.payload import Columns, column, is_binary

Bytes = npt.NDArray[np.uint8]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def decoded(array: pa.Array) -> pa.Array:
    """The values of a dictionary-encoded column; others as they are."""
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def text_column(columns: Columns, name: str | None, parser: str) -> tuple[str, pa.Array]:
    """The named column of text or UTF-8 bytes, or the only one there is, as large_string.

    Raises:
        InvalidInputError: it is missing, not unique, of another type or no UTF-8.
    """
    if name is None:
        candidates = [key for key, array in columns.items() if is_text(array.type) or is_binary(array.type)]
        if len(candidates) != 1:
            payload = ", ".join(f"{key}: {array.type}" for key, array in columns.items())
            raise InvalidInputError(
                f"{parser}: expected exactly one column of text or bytes, the payload has ({payload})"
            )
        name = candidates[0]
    return name, as_text(column(columns, name, parser), name, parser)


def as_text(array: pa.Array, name: str, parser: str) -> pa.Array:
    """Text or UTF-8 bytes as large_string.

    Raises:
        InvalidInputError: another type, or no UTF-8.
    """
    if is_binary(array.type):
        try:
            return array.cast(pa.large_binary()).cast(pa.large_string())
        except pa.ArrowInvalid as error:
            raise InvalidInputError(
                f"{parser}: column {name!r} has bytes that are no UTF-8 text; decode them in a parser of your own"
            ) from error
    if not is_text(array.type):
        raise InvalidInputError(f"{parser}: column {name!r} is {array.type}; expected text, or bytes of UTF-8 text")
    return array.cast(pa.large_string())


def flat_bytes(array: pa.Array) -> tuple[Bytes, Int64Array]:
    """The bytes of n texts or byte strings, and where each begins.

    Args:
        array: of text or bytes, without nulls.

    Returns:
        uint8 [total], and int64 [n + 1] of ascending offsets into it, the first 0.
    """
    array = array.cast(pa.large_binary())
    count = len(array)
    if count == 0:
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[array.offset : array.offset + count + 1]
    first, total = int(offsets[0]), int(offsets[-1] - offsets[0])
    if total == 0:
        return np.empty(0, dtype=np.uint8), offsets - first
    return np.frombuffer(data, dtype=np.uint8, count=total, offset=first), offsets - first


def flat_list(array: pa.Array) -> tuple[pa.Array, Int64Array]:
    """The values of n lists, and where each begins: an array [total] and int64 [n + 1], the first 0."""
    lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return array.flatten(), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def hashed_slices(data: Bytes, starts: Int64Array, ends: Int64Array) -> Uint64Array:
    """A hash of each of m slices of bytes that do not overlap and ascend.

    Args:
        data: uint8 [total].
        starts: int64 [m].
        ends: int64 [m], exclusive.

    Returns:
        uint64 [m]; equal slices have equal hashes, on every machine.
    """
    filled = ends > starts
    first, last = starts[filled], ends[filled]
    lengths = last - first
    places = _ranges(np.zeros_like(lengths), lengths)
    coefficients = mixed(np.arange(1, int(lengths.max(initial=0)) + 1, dtype=np.uint64) * _GAMMA) | np.uint64(1)
    terms = coefficients[places] * (data[_ranges(first, last)].astype(np.uint64) + np.uint64(1))
    sums = np.zeros(len(starts), dtype=np.uint64)
    if len(first):
        sums[filled] = np.add.reduceat(terms, np.cumsum(lengths) - lengths)
    return mixed(mixed(sums + _GAMMA))


def _ranges(starts: Int64Array, ends: Int64Array) -> Int64Array:
    """The integers of [start, end) for each of some ranges that are not empty, one after the other."""
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    places = np.cumsum(ends - starts)
    steps = np.ones(int(places[-1]), dtype=np.int64)
    steps[0] = starts[0]
    steps[places[:-1]] = starts[1:] - ends[:-1] + 1
    return np.cumsum(steps)


def hashed_texts(array: pa.Array) -> Uint64Array:
    """A hash of each of n texts or byte strings, uint64 [n]."""
    data, offsets = flat_bytes(array)
    return hashed_slices(data, offsets[:-1], offsets[1:])


def hashed_integers(values: npt.NDArray[np.generic]) -> Uint64Array:
    """A hash of each of n integers or booleans, uint64 [n]; it depends on the value, not on the type."""
    widened = values.astype(np.uint64) if values.dtype == np.uint64 else values.astype(np.int64).astype(np.uint64)
    return mixed(mixed(widened + _GAMMA))


Unit = Literal["words", "characters", "bytes"]

_IS_WORD = np.zeros(256, dtype=bool)
_IS_WORD[[byte for byte in range(256) if byte >= 128 or chr(byte).isalnum() or byte == ord("_")]] = True
"""Bytes of words: ASCII letters, digits and underscores, and whatever is not ASCII."""


def tokens_of(data: Bytes, offsets: Int64Array, unit: Unit) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Where the tokens of n UTF-8 texts are.

    Args:
        data: uint8 [total].
        offsets: of the texts, int64 [n + 1].
        unit: what a token is.

    Returns:
        starts and ends of the m tokens, int64 [m], and which of them belong to which text, int64 [n + 1].
    """
    if unit == "bytes":
        starts = np.arange(len(data), dtype=np.int64)
        return starts, starts + 1, offsets
    begins = np.zeros(len(data) + 1, dtype=bool)
    begins[offsets] = True  # of texts; one past the end stands for the end
    if unit == "characters":
        starts = np.flatnonzero((data & 0xC0) != 0x80)
        ends = np.append(starts[1:], len(data))
    else:
        word = _IS_WORD[data]
        after_word = np.concatenate([[False], word[:-1]]) if len(data) else word
        before_word = np.concatenate([word[1:], [False]]) if len(data) else word
        starts = np.flatnonzero(word & (~after_word | begins[:-1]))
        ends = np.flatnonzero(word & (~before_word | begins[1:])) + 1
    return starts, ends, np.searchsorted(starts, offsets).astype(np.int64)


def padded(
    values: Int64Array, offsets: Int64Array, max_length: int, width: int | None
) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """The first values of each of n lists as rows of one width, and which entries are values.

    Args:
        values: int64 [total].
        offsets: of the lists, int64 [n + 1].
        max_length: of a list; what is longer is cut.
        width: of the rows; None: that of the longest list after cutting.

    Returns:
        int64 [n, width] with 0 where there is no value, and bool [n, width].
    """
    lengths = np.minimum(np.diff(offsets), max_length)
    places = np.arange(int(lengths.max(initial=0)) if width is None else width)
    mask: npt.NDArray[np.bool_] = places[None, :] < lengths[:, None]
    rows = np.zeros(mask.shape, dtype=np.int64)
    rows[mask] = values[(offsets[:-1, None] + places[None, :])[mask]]
    return rows, mask
