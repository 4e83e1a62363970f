"""Copying values of several parts into one column, in any order.

Values of a fixed width from one part are copied by NumPy's ``take``. From many parts, a call for each of them would
cost more than the copies; there the values become references (Arrow's view types), which one cast turns into
consecutive bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.storage.picks import Picks
from modyn.storage.values import Bits, Fixed, Ragged, Values, from_fixed, view_type

INLINE_BYTES = 12
"""Values up to this length lie in Arrow's references themselves."""

MAX_REFERENCED_BYTES = 2**31 - 1
"""References count bytes within a buffer in 32 bits."""

FEW_PIECES_BYTES = 1 << 15
"""If pieces are at least this large on average, a call for each of them costs less than references."""

_V = TypeVar("_V", Fixed, Bits, Ragged)

_REFERENCE = np.dtype([("length", "<i4"), ("prefix", "<i4"), ("buffer", "<i4"), ("start", "<i4")])


def copied(columns: Sequence[Values], picks: Picks, kind: pa.DataType) -> pa.Array:
    """Picked values as an array of their own, [n]; n > 0."""
    if _all(columns, Fixed, picks):
        data = _by_reference(columns, picks) if _by_reference_pays(columns, picks) else _piece_by_piece(columns, picks)
        return from_fixed(kind, len(picks), data, _validity(columns, picks))
    if _all(columns, Bits, picks):
        bits = _in_order([columns[part].values.take(rows) for part, _, rows in picks.pieces], picks)
        return pa.Array.from_buffers(kind, len(picks), [_validity(columns, picks), _packed(bits)])
    if picks.parts is not None and _all(columns, Ragged, picks) and _referable(columns, picks):
        return _ragged_by_reference(columns, picks, kind)
    return _by_arrow(columns, picks, kind)


def _all(columns: Sequence[Values], kind: type[_V], picks: Picks) -> TypeGuard[Sequence[_V]]:
    """Whether the parts that rows are picked from are of one kind."""
    return all(isinstance(columns[part], kind) for part in picks.used)


def _referable(columns: Sequence[Fixed] | Sequence[Ragged], picks: Picks) -> bool:
    return all(columns[part].buffer.size <= MAX_REFERENCED_BYTES for part in picks.used)


# ---------------------------------------------------------------------------------------------- fixed width


def _by_reference_pays(columns: Sequence[Fixed], picks: Picks) -> bool:
    width = columns[picks.part].width
    if picks.parts is None or width <= INLINE_BYTES:
        return False
    if len(picks) * width >= FEW_PIECES_BYTES * len(picks.used) and picks.order is None:
        return False
    return _referable(columns, picks)


def _by_reference(columns: Sequence[Fixed], picks: Picks) -> pa.Buffer:
    assert picks.parts is not None  # there are several
    strides = np.array([columns[part].stride for part in picks.used], dtype=np.int64)
    references = np.empty(len(picks), dtype=_REFERENCE)
    references["length"] = columns[picks.part].width
    references["buffer"] = picks.used_index
    references["start"] = picks.rows * strides[picks.used_index]
    buffers = [None, pa.py_buffer(references), *(columns[part].buffer for part in picks.used)]
    # The large type has no limit to the bytes of all rows together.
    return pa.Array.from_buffers(pa.binary_view(), len(picks), buffers).cast(pa.large_binary()).buffers()[2]


def _piece_by_piece(columns: Sequence[Fixed], picks: Picks) -> pa.Buffer:
    data, values = _room(len(picks), columns[picks.part].values.dtype)
    for part, places, rows in picks.pieces:
        source = columns[part].values
        if source.flags.c_contiguous:
            np.take(source, rows, out=values[places], mode="clip")  # "clip" skips NumPy's buffering
        else:
            values[places] = source[rows]  # ``take`` would copy all of the source first
    if picks.order is None:
        return data
    ordered, target = _room(len(picks), values.dtype)
    np.take(values, picks.inverse, out=target, mode="clip")
    return ordered


def _room(length: int, kind: np.dtype[np.void]) -> tuple[pa.Buffer, npt.NDArray[np.void]]:
    """Memory of Arrow's pool, which keeps it: fresh memory would cost a page fault every 4 KiB."""
    data = pa.allocate_buffer(length * kind.itemsize)
    return data, np.frombuffer(data, dtype=kind, count=length)


# ---------------------------------------------------------------------------------------------- other kinds


def _ragged_by_reference(columns: Sequence[Ragged], picks: Picks, kind: pa.DataType) -> pa.Array:
    pieces = [columns[part].bounds(rows) for part, _, rows in picks.pieces]
    starts = _in_order([starts for starts, _ in pieces], picks)
    lengths = _in_order([lengths for _, lengths in pieces], picks)
    references = np.empty(len(picks), dtype=_REFERENCE)
    references["length"] = lengths
    references["buffer"] = picks.used_index
    references["start"] = starts
    short = np.flatnonzero(lengths <= INLINE_BYTES)
    if len(short):
        inline = references.view(np.uint8).reshape(len(picks), _REFERENCE.itemsize)
        inline[short, 4:] = _heads(columns, picks, starts, lengths, short)
    buffers = [_validity(columns, picks), pa.py_buffer(references), *(columns[part].buffer for part in picks.used)]
    return pa.Array.from_buffers(view_type(kind), len(picks), buffers).cast(kind)


def _heads(
    columns: Sequence[Ragged], picks: Picks, starts: Int64Array, lengths: Int64Array, short: Int64Array
) -> npt.NDArray[np.uint8]:
    """The bytes of short values, filled up with zeros, [short, 12]."""
    heads = np.zeros((len(short), INLINE_BYTES), dtype=np.uint8)
    assert picks.used_index is not None  # there are several parts
    part_of_short = picks.used_index[short]
    columns_of_byte = np.arange(INLINE_BYTES)
    for index in np.unique(part_of_short).tolist():
        data = np.frombuffer(columns[picks.used[index]].data, dtype=np.uint8)
        mine = np.flatnonzero(part_of_short == index)
        if len(data):
            places = starts[short[mine], None] + columns_of_byte
            heads[mine] = np.take(data, places, mode="clip")
    heads[columns_of_byte >= lengths[short, None]] = 0
    return heads


def _by_arrow(columns: Sequence[Values], picks: Picks, kind: pa.DataType) -> pa.Array:
    taken = [_taken(columns[part], rows, kind) for part, _, rows in picks.pieces]
    joined = pa.concat_arrays(taken) if len(taken) > 1 else taken[0]
    return joined if picks.order is None else joined.take(pa.array(picks.inverse))


def _taken(column: Values, rows: Int64Array, kind: pa.DataType) -> pa.Array:
    array = column.array
    if array is not None and array.type == kind:
        return array.take(pa.array(rows))
    if isinstance(column, Ragged):
        return pa.nulls(len(rows), kind)  # such columns are only made where no value is known
    return copied([column], Picks(rows), kind)


def _validity(columns: Sequence[Fixed] | Sequence[Bits] | Sequence[Ragged], picks: Picks) -> pa.Buffer | None:
    if all(columns[part].valid is None for part in picks.used):
        return None
    masks = [
        np.ones(len(rows), dtype=bool) if (valid := columns[part].valid) is None else valid.take(rows)
        for part, _, rows in picks.pieces
    ]
    return _packed(_in_order(masks, picks))


def _packed(bits: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(bits, bitorder="little"))


_T = TypeVar("_T", Int64Array, npt.NDArray[np.bool_])


def _in_order(pieces: Sequence[_T], picks: Picks) -> _T:
    """Values that were found part by part, in the order of the result."""
    joined: _T = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    return joined if picks.order is None else joined[picks.inverse]
