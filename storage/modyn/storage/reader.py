"""Client side of the storage service: samples, columns and models as typed Arrow and NumPy data.

Everything here speaks to a :class:`StorageStub` and knows no service internals, so that training jobs, evaluation
jobs, the selector and the Python client share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from modyn.core.arrow import (
    MESSAGE_BYTES,
    decode_batch,
    encode_batch,
    int64_column,
    rows_per_message,
    slices,
)
from modyn.core.digests import digest_bytes
from modyn.core.errors import CorruptDataError, ModynError
from modyn.core.keysets import KEYS_PER_MESSAGE, KeyRange, KeySet, ranges_to_proto
from modyn.core.rpc import arrow_stream, as_arrow_messages, cancel
from modyn.proto.common_pb2 import ArrowMessage, Interval
from modyn.proto.storage_pb2 import (
    FetchModelRequest,
    LabelsAsOf,
    ModelChunk,
    Purpose,
    ReadColumnsRequest,
)
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.batches import SampleBatch as SampleBatch  # noqa: PLC0414 - also found here
from modyn.storage.batches import read_samples as read_samples  # noqa: PLC0414

Column = ReadColumnsRequest.Column
Order = ReadColumnsRequest.Order

DATASET_METADATA = b"modyn.dataset"
BATCH_ID_METADATA = b"modyn.batch_id"
NUM_ROWS_METADATA = b"modyn.num_rows"

COLUMN_NAMES = {
    Column.TIMESTAMP: "timestamp",
    Column.ARRIVAL: "arrival",
    Column.LABEL: "label",
    Column.ROLE: "role",
    Column.LABEL_TIME: "label_time",
}

Response = TypeVar("Response")


class Appended(NamedTuple):
    """What an append answers.

    Attributes:
        keys: of the samples, in row order.
        repeated_batch: the batch had been appended before; nothing was written.
    """

    keys: KeyRange
    repeated_batch: bool


class LabelsSet(NamedTuple):
    """What setting a batch of labels answers.

    Attributes:
        version: number of the batch: 1, 2, 3 … in each dataset.
        num_labels: how many labels it has; those of deleted samples were left out.
        num_corrected: samples that had another label before.
        arrival: when it reached storage, Unix seconds.
        repeated_batch: the batch had been set before; nothing was written.
    """

    version: int
    num_labels: int
    num_corrected: int
    arrival: int
    repeated_batch: bool


def stream_columns(
    stub: StorageStub,
    dataset: str,
    part: KeySet | Interval,
    *,
    columns: Sequence[Column.ValueType] = (),
    order: Order.ValueType = Order.ORDER_UNSPECIFIED,
    end_key: int | None = None,
    arrival: Interval | None = None,
    labels: LabelsAsOf | None = None,
    purpose: Purpose.ValueType = Purpose.PURPOSE_UNSPECIFIED,
) -> Iterator[pa.RecordBatch]:
    """Columns of a part of a dataset: ``key``, then the ones asked for, in batches of about 1 MiB.

    A part given as an interval or as key ranges answers live samples only, in key order unless said otherwise; keys
    given one by one, or ranges in ``REQUEST`` order, are all answered, superseded ones too. Deleted samples never are.

    Args:
        columns: any of ``Column.TIMESTAMP``, ``Column.ARRIVAL``, ``Column.LABEL``, ``Column.ROLE`` and
            ``Column.LABEL_TIME`` (null where the label is the one that the sample was ingested with).
        order: ``Order.KEY``, ``Order.EVENT_TIME`` (timestamp, then key) or ``Order.REQUEST``.
        end_key: ignore keys from here on, for a consistent snapshot.
        arrival: only samples that arrived in this interval.
        labels: which version of labels; the newest by default.
        purpose: with ``TRAINING``, samples that training may not see are left out of intervals and ranges and refused
            by key.
    """
    if isinstance(part, KeySet) and part.array is not None and order == Order.EVENT_TIME:
        # Single keys may need several requests, so they are put in order here.
        read = list(dict.fromkeys([*columns, Column.TIMESTAMP]))
        found = stream_columns(
            stub,
            dataset,
            part,
            columns=read,
            order=Order.REQUEST,
            end_key=end_key,
            arrival=arrival,
            labels=labels,
            purpose=purpose,
        )
        yield _by_time(pa.concat_batches(list(found)), columns)
        return
    for request in _column_requests(part, order):
        request.dataset = dataset
        request.columns.extend(columns)
        if end_key is not None:
            request.end_key = end_key
        if arrival is not None:
            request.arrival.CopyFrom(arrival)
        if labels is not None:
            request.labels.CopyFrom(labels)
        request.purpose = purpose
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
    labels: LabelsAsOf | None = None,
    purpose: Purpose.ValueType = Purpose.PURPOSE_UNSPECIFIED,
) -> pa.Table:
    """Like :func:`stream_columns`, as one table whose columns are single chunks."""
    batches = list(
        stream_columns(
            stub,
            dataset,
            part,
            columns=columns,
            order=order,
            end_key=end_key,
            arrival=arrival,
            labels=labels,
            purpose=purpose,
        )
    )
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
    response = _send(stub.Append, dataset, batch_id, batches)
    return Appended(KeyRange(response.keys.start, response.keys.end), response.repeated_batch)


def set_labels(stub: StorageStub, dataset: str, batch_id: str, batches: Iterable[pa.RecordBatch]) -> LabelsSet:
    """Sets labels of existing samples as one batch, durably and exactly once.

    Args:
        batch_id: as of :func:`append`; batches of labels and of samples do not share their names.
        batches: record batches of one schema: ``key`` (int64), ``label`` (of the dataset's type; null withdraws the
            label) and perhaps ``label_time`` (Unix seconds or an Arrow timestamp; arrival if absent). Each key once.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: a key does not exist or is there twice, a label is none of this dataset, or the batch id is
            too long or missing; nothing was written.
        ConflictError: another process writes to the dataset.
        Exception: whatever ``batches`` raises, as it is; nothing is written then.
    """
    response = _send(stub.SetLabels, dataset, batch_id, batches)
    return LabelsSet(
        response.version, response.num_labels, response.num_corrected, response.arrival, response.repeated_batch
    )


def _send(
    call: Callable[[Iterator[ArrowMessage]], Response], dataset: str, batch_id: str, batches: Iterable[pa.RecordBatch]
) -> Response:
    """Streams one named batch to storage."""
    failure: list[Exception] = []
    metadata = {DATASET_METADATA: dataset.encode(), BATCH_ID_METADATA: batch_id.encode()}

    def messages() -> Iterator[bytes]:
        num_rows, held = 0, None
        try:
            for piece in itertools.chain.from_iterable(map(_message_sized, batches)):
                if held is not None:
                    yield encode_batch(held.replace_schema_metadata(metadata))
                num_rows, held = num_rows + piece.num_rows, piece
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            failure.append(error)
            return  # without the last message, which makes the batch complete
        if held is not None:
            yield encode_batch(held.replace_schema_metadata({**metadata, NUM_ROWS_METADATA: b"%d" % num_rows}))

    try:
        return call(as_arrow_messages(messages()))
    except ModynError:
        if failure:
            raise failure[0] from None
        raise


def store_model(
    stub: StorageStub, data: bytes, parent: str | None = None, full_model_interval: int | None = None
) -> str:
    """Stores a model's bytes; its digest, under which it is found again.

    Args:
        stub: of the storage service.
        data: one safetensors file.
        parent: digest of a stored model that it may be much like, such as the one that its training began with: it may
            be stored as the difference from this one, or from the whole model that this one is a difference from.
        full_model_interval: of a chain of such models every so many are stored whole; None: only the first.
    """
    return stub.StoreModel(_model_chunks(data, parent, full_model_interval)).digest


def _model_chunks(data: bytes, parent: str | None, full_model_interval: int | None) -> Iterator[ModelChunk]:
    for part in slices(len(data), MESSAGE_BYTES):
        yield ModelChunk(data=data[part], parent=parent, full_model_interval=full_model_interval)
        parent = full_model_interval = None  # the first chunk says it


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
