"""Client side of the storage service: samples, columns and models as typed Arrow and NumPy data.

Everything here speaks to a :class:`StorageStub` and knows no service internals, so that training jobs, evaluation
jobs, the selector and the Python client share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from modyn.core.arrow import (
    MESSAGE_BYTES,
    Int64Array,
    decode_batch,
    encode_batch,
    int64_column,
    rows_per_message,
    slices,
)
from modyn.core.digests import digest_bytes
from modyn.core.errors import CorruptDataError, InvalidInputError, ModynError
from modyn.core.keysets import KEYS_PER_MESSAGE, KeyRange, KeySet, ranges_to_proto
from modyn.core.rpc import arrow_stream, as_arrow_messages, cancel
from modyn.proto.common_pb2 import Interval
from modyn.proto.storage_pb2 import FetchModelRequest, ModelChunk, ReadColumnsRequest, ReadSamplesRequest
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.prefetch import Prefetched

Column = ReadColumnsRequest.Column
Order = ReadColumnsRequest.Order

DATASET_METADATA = b"modyn.dataset"
BATCH_ID_METADATA = b"modyn.batch_id"

FIXED_COLUMNS = 3
"""A sample message starts with key, label and timestamp; payload columns follow by position, whatever their names."""

COLUMN_NAMES = {Column.TIMESTAMP: "timestamp", Column.ARRIVAL: "arrival", Column.LABEL: "label"}

_ABANDON = b""
"""No Arrow message: makes the server give up an `Append` whose source failed, with nothing written."""


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """n samples as columns of one chunk each, in request order.

    Attributes:
        keys: int64 [n].
        labels: [n] of the dataset's label type, null where missing.
        timestamps: event times, int64 [n], Unix seconds.
        columns: payload columns by name, [n] each.
    """

    keys: Int64Array
    labels: pa.Array
    timestamps: Int64Array
    columns: dict[str, pa.Array]

    def __len__(self) -> int:
        return len(self.keys)


class Appended(NamedTuple):
    """What an append answers.

    Attributes:
        keys: of the samples, in row order.
        repeated_batch: the batch had been appended before; nothing was written.
    """

    keys: KeyRange
    repeated_batch: bool


def read_samples(
    stub: StorageStub,
    dataset: str,
    keys: KeySet,
    *,
    batch_size: int,
    columns: Sequence[str] = (),
    prefetch_messages: int = 4,
) -> Iterator[SampleBatch]:
    """Samples in the order of ``keys``, in batches of exactly ``batch_size`` (the last may be smaller).

    Args:
        columns: payload columns to read; all by default.
        prefetch_messages: how many messages of about 1 MiB a background thread fetches ahead. It stops when the
            iterator is exhausted or closed.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: a key or column does not exist, or ``batch_size`` is not positive.
        CorruptDataError: a segment is damaged; the message names it.
    """
    if batch_size < 1:
        raise InvalidInputError(f"batch_size {batch_size}: expected at least 1")
    requests = (ReadSamplesRequest(dataset=dataset, keys=part, columns=columns) for part in keys.to_protos())
    messages = Prefetched((stub.ReadSamples(request) for request in requests), prefetch_messages)
    try:
        for batch in _rebatched(messages, batch_size):
            yield _sample_batch(batch)
    finally:
        messages.close()


def stream_columns(
    stub: StorageStub,
    dataset: str,
    part: KeySet | Interval,
    *,
    columns: Sequence[Column.ValueType] = (),
    order: Order.ValueType = Order.ORDER_UNSPECIFIED,
    end_key: int | None = None,
    arrival: Interval | None = None,
) -> Iterator[pa.RecordBatch]:
    """Columns of a part of a dataset: ``key``, then the ones asked for, in batches of about 1 MiB.

    A part given as an interval or as key ranges answers live samples only, in key order unless said otherwise; keys
    given one by one, or ranges in ``REQUEST`` order, are all answered, superseded ones too.

    Args:
        columns: any of ``Column.TIMESTAMP``, ``Column.ARRIVAL`` and ``Column.LABEL``.
        order: ``Order.KEY``, ``Order.EVENT_TIME`` (timestamp, then key) or ``Order.REQUEST``.
        end_key: ignore keys from here on, for a consistent snapshot.
        arrival: only samples that arrived in this interval.
    """
    if isinstance(part, KeySet) and part.array is not None and order == Order.EVENT_TIME:
        # Single keys may need several requests, so they are put in order here.
        read = list(dict.fromkeys([*columns, Column.TIMESTAMP]))
        found = stream_columns(stub, dataset, part, columns=read, order=Order.REQUEST, end_key=end_key, arrival=arrival)
        yield _by_time(pa.concat_batches(list(found)), columns)
        return
    for request in _column_requests(part, order):
        request.dataset = dataset
        request.columns.extend(columns)
        if end_key is not None:
            request.end_key = end_key
        if arrival is not None:
            request.arrival.CopyFrom(arrival)
        stream = stub.ReadColumns(request)
        try:
            for message in arrow_stream(stream):
                yield decode_batch(message)
        finally:
            cancel(stream)


def read_columns(
    stub: StorageStub,
    dataset: str,
    part: KeySet | Interval,
    *,
    columns: Sequence[Column.ValueType] = (),
    order: Order.ValueType = Order.ORDER_UNSPECIFIED,
    end_key: int | None = None,
    arrival: Interval | None = None,
) -> pa.Table:
    """Like :func:`stream_columns`, as one table whose columns are single chunks."""
    batches = list(stream_columns(stub, dataset, part, columns=columns, order=order, end_key=end_key, arrival=arrival))
    return pa.Table.from_batches([pa.concat_batches(batches)])


def append(stub: StorageStub, dataset: str, batch_id: str, batches: Iterable[pa.RecordBatch]) -> Appended:
    """Appends one batch of samples, durably and exactly once.

    Args:
        batch_id: the caller's name for this batch, 1 to 200 characters. Repeating it, after a lost answer or a crash,
            writes nothing and answers the first call's keys.
        batches: record batches of one schema. ``timestamp`` (Unix seconds or an Arrow timestamp; arrival time if
            absent) and ``label`` (nullable, optional) are taken as such, all other columns are payload.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: the columns do not fit the dataset, or a batch id is too long or missing.
        Exception: whatever ``batches`` raises, as it is; nothing is written then.
    """
    failure: list[Exception] = []

    def messages() -> Iterator[bytes]:
        metadata = {DATASET_METADATA: dataset.encode(), BATCH_ID_METADATA: batch_id.encode()}
        try:
            for batch in batches:
                for piece in _message_sized(batch):
                    yield encode_batch(piece.replace_schema_metadata(metadata))
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            failure.append(error)
            yield _ABANDON

    try:
        response = stub.Append(as_arrow_messages(messages()))
    except ModynError:
        if failure:
            raise failure[0] from None
        raise
    return Appended(KeyRange(response.keys.start, response.keys.end), response.repeated_batch)


def store_model(stub: StorageStub, data: bytes) -> str:
    """Stores a model's bytes; its digest, under which it is found again."""
    chunks = (ModelChunk(data=data[part]) for part in slices(len(data), MESSAGE_BYTES))
    return stub.StoreModel(chunks).digest


def fetch_model(stub: StorageStub, digest: str) -> bytes:
    """The bytes of a stored model.

    Raises:
        NotFoundError: there is none with this digest.
        CorruptDataError: the bytes do not have this digest.
    """
    data = b"".join(chunk.data for chunk in stub.FetchModel(FetchModelRequest(digest=digest)))
    if digest_bytes(data) != digest:
        raise CorruptDataError(f"model {digest}: the bytes received have another digest ({digest_bytes(data)})")
    return data


def _sample_batch(batch: pa.RecordBatch) -> SampleBatch:
    names = batch.schema.names[FIXED_COLUMNS:]
    payload = {name: batch.column(FIXED_COLUMNS + index) for index, name in enumerate(names)}
    keys: Int64Array = batch.column(0).to_numpy()
    timestamps: Int64Array = batch.column(2).to_numpy()
    return SampleBatch(keys, batch.column(1), timestamps, payload)


def _message_sized(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows == 0:
        yield batch
    for part in slices(batch.num_rows, rows_per_message(batch.nbytes / max(batch.num_rows, 1))):
        yield batch.slice(part.start, part.stop - part.start)


def _column_requests(part: KeySet | Interval, order: Order.ValueType) -> Iterator[ReadColumnsRequest]:
    if isinstance(part, Interval):
        yield ReadColumnsRequest(interval=part, order=order)
    elif part.ranges is not None and order == Order.EVENT_TIME:
        yield ReadColumnsRequest(ranges=ranges_to_proto(part.ranges), order=order)
    elif part.ranges is not None and order != Order.REQUEST:
        # Ascending ranges in key order can be asked for piece by piece.
        for piece in list(slices(len(part.ranges), KEYS_PER_MESSAGE // 4)) or [slice(0, 0)]:
            yield ReadColumnsRequest(ranges=ranges_to_proto(part.ranges[piece]), order=Order.KEY)
    else:
        if order == Order.KEY:
            part = KeySet(array=np.sort(part.to_array()))
        for message in list(part.to_protos()) or [part.to_proto()]:
            yield ReadColumnsRequest(keys=message, order=Order.REQUEST)


def _by_time(batch: pa.RecordBatch, columns: Sequence[Column.ValueType]) -> pa.RecordBatch:
    order = np.lexsort((int64_column(batch, "key"), int64_column(batch, "timestamp")))
    return batch.select(["key", *(COLUMN_NAMES[column] for column in columns)]).take(pa.array(order))


def _rebatched(messages: Iterable[bytes], batch_size: int) -> Iterator[pa.RecordBatch]:
    """Cuts messages into batches of exactly ``batch_size`` rows; copies only where a batch spans messages."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for message in messages:
        batch = decode_batch(message)
        start = 0
        if rows:
            start = min(batch_size - rows, batch.num_rows)
            pending.append(batch.slice(0, start))
            rows += start
            if rows < batch_size:
                continue
            yield pa.concat_batches(pending)
            pending, rows = [], 0
        while batch.num_rows - start >= batch_size:
            yield batch.slice(start, batch_size)
            start += batch_size
        if start < batch.num_rows:
            pending, rows = [batch.slice(start)], batch.num_rows - start
    if rows:
        yield pa.concat_batches(pending)
