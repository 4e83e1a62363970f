"""Writing record batches as Arrow IPC with one copy of their bytes.

Arrow's own writer copies a batch into a growing buffer, out of which gRPC, which sends only exact ``bytes``, needs it
copied once more. Here the few bytes around the data are made up by hand, in the format that
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc describes.
"""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa

_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + bytes(4)
_PADDING = tuple(bytes(size) for size in range(8))

_Buffers = list["pa.Buffer | None"]
_Nodes = list[int]


def stream_of(batch: pa.RecordBatch) -> bytes | None:
    """An Arrow IPC stream of one batch; None if a column needs Arrow's own writer."""
    nodes: _Nodes = []
    buffers: _Buffers = []
    for column in batch.columns:
        if not _add(column, nodes, buffers):
            return None
    pieces: list[pa.Buffer | bytes] = [batch.schema.serialize(), b""]
    places: list[int] = []
    end = 0
    for data in buffers:
        size = 0 if data is None else data.size
        places += (end, size)
        if data is not None and size:
            pieces.append(data)
            if size & 7:
                pieces.append(_PADDING[-size & 7])
        end += size + (-size & 7)
    pieces[1] = _batch_header(batch.num_rows, nodes, places, end)
    pieces.append(_END)
    return b"".join(pieces)


def _batch_header(num_rows: int, nodes: _Nodes, places: list[int], body: int) -> bytes:
    """The message before a batch's bytes: a flatbuffer with two tables, ``Message`` and in it ``RecordBatch``.

    Args:
        nodes: number of rows and of nulls of each array, one after the other.
        places: first byte and number of bytes of each buffer, one after the other.
        body: bytes that follow.
    """
    nodes_bytes = 8 * len(nodes)
    tables = struct.pack(
        # Offsets are relative to where they stand; ``x`` fills up to the alignment of what follows.
        "<I HHHHHH iIqhBx HHHHHxx iIqI".replace(" ", ""),
        16,  # root: the table Message, at 16
        *(12, 20, 16, 18, 4, 8),  # its vtable, at 4: sizes, then where its fields are
        *(12, 48 - 20, body, 4, 3),  # at 16: vtable, RecordBatch, bodyLength, metadata version 5, type RecordBatch
        *(10, 20, 8, 4, 16),  # RecordBatch's vtable, at 36
        *(48 - 36, 68 - 52, num_rows, 76 + nodes_bytes - 64),  # at 48: vtable, nodes, length, buffers
    )
    header = b"".join(
        (
            tables,
            struct.pack("<I", len(nodes) // 2),  # at 68
            struct.pack(f"<{len(nodes)}q", *nodes),
            struct.pack("<xxxxI", len(places) // 2),  # the elements are aligned to 8 bytes
            struct.pack(f"<{len(places)}q", *places),
        )
    )
    return b"".join((_CONTINUATION, struct.pack("<i", len(header)), header))


def _add(array: pa.Array, nodes: _Nodes, buffers: _Buffers) -> bool:
    """Adds an array's shape and bytes; says whether it could."""
    kind = array.type
    nodes += (len(array), array.null_count)
    if pa.types.is_fixed_size_list(kind):
        if array.null_count and (array.offset or len(array.values) != len(array) * kind.list_size):
            return False
        items = array.values if array.null_count else array.flatten()
        return _add_validity(array, buffers) and _add(items, nodes, buffers)
    if kind in _OFFSET_BYTES:
        return _add_validity(array, buffers) and _add_ragged(array, buffers)
    if pa.types.is_fixed_size_binary(kind) or _is_number(kind):
        return _add_validity(array, buffers) and _add_fixed(array, buffers)
    return False


def _add_fixed(array: pa.Array, buffers: _Buffers) -> bool:
    bits = array.type.bit_width
    first = array.offset * bits
    data = array.buffers()[1]
    if data is None or first & 7:
        buffers.append(None)
        return len(array) == 0
    buffers.append(data.slice(first >> 3, (len(array) * bits + 7) >> 3))
    return True


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind))


_OFFSET_BYTES = {pa.binary(): 4, pa.string(): 4, pa.large_binary(): 8, pa.large_string(): 8}


def _add_validity(array: pa.Array, buffers: _Buffers) -> bool:
    if array.null_count == 0:
        buffers.append(None)
        return True
    if array.offset & 7:
        return False
    buffers.append(array.buffers()[0].slice(array.offset >> 3, (len(array) + 7) >> 3))
    return True


def _add_ragged(array: pa.Array, buffers: _Buffers) -> bool:
    """Offsets from zero on, and the bytes they point to."""
    item = _OFFSET_BYTES[array.type]
    _, positions, data = array.buffers()
    if len(array) == 0 or positions is None:
        buffers += (None, None)
        return True
    offsets = np.frombuffer(positions, dtype=f"<i{item}", count=array.offset + len(array) + 1)[array.offset :]
    first, last = int(offsets[0]), int(offsets[-1])
    buffers.append(pa.py_buffer(offsets - first if first else offsets))
    buffers.append(None if data is None else data.slice(first, last - first))
    return True
