"""Arrow IPC codecs for bulk streams: a message is one self-contained IPC stream of one record batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.errors import CorruptDataError
from modyn.core.ipc import stream_of

MESSAGE_BYTES = 1 << 20
"""Aimed-at size of a bulk message in bytes: 0.5-2 MiB is fastest through gRPC, 16 MiB collapses."""

Int64Array = npt.NDArray[np.int64]


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """One record batch with its schema as Arrow IPC bytes (gRPC sends only exact ``bytes``)."""
    message = stream_of(batch)
    if message is not None:
        return message
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def decode_batch(message: bytes) -> pa.RecordBatch:
    """The record batch of a bulk message; its columns point into ``message`` without a copy.

    Raises:
        CorruptDataError: the bytes are no Arrow IPC stream of one batch.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(message)) as reader:
            return reader.read_next_batch()
    except (pa.ArrowException, OSError, StopIteration) as error:  # cut short: an OSError
        raise CorruptDataError(f"a bulk message is no Arrow IPC record batch: {error}") from error


def batch_of(**columns: Any) -> pa.RecordBatch:
    """A record batch from NumPy or Arrow arrays by name."""
    arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns.values()]
    return pa.record_batch(arrays, names=list(columns))


def rows_per_message(bytes_per_row: float) -> int:
    """How many rows make a message of about :data:`MESSAGE_BYTES`."""
    return max(1, int(MESSAGE_BYTES // max(bytes_per_row, 1.0)))


def slices(num_rows: int, rows: int) -> Iterator[slice]:
    """Consecutive slices of at most ``rows`` rows that cover ``num_rows``."""
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))


def int64_column(batch: pa.RecordBatch, name: str) -> Int64Array:
    """A null-free int64 column as NumPy, without a copy."""
    column: Int64Array = batch.column(name).to_numpy(zero_copy_only=False)
    return column.astype(np.int64, copy=False)


def concat_messages(messages: Iterable[bytes]) -> pa.Table | None:
    """All batches of a bulk stream as one table of single-chunk columns; None when the stream was empty."""
    batches = [decode_batch(message) for message in messages]
    if not batches:
        return None
    return pa.Table.from_batches(batches).combine_chunks()
