"""Client side of sample columns: everything here speaks to a :class:`SelectorStub` and knows no service internals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from modyn.core.arrow import decode_batch, encode_batch, rows_per_message, slices
from modyn.core.errors import ModynError
from modyn.core.rpc import arrow_stream, cancel
from modyn.proto.selector_pb2 import (
    DescribeSampleColumnsRequest,
    ReadSampleColumnsRequest,
    SampleColumns,
    SampleColumnsHeader,
    StoreSampleColumnsRequest,
)
from modyn.proto.selector_pb2_grpc import SelectorStub


def store_sample_columns(stub: SelectorStub, dataset: str, kind: str, batches: Iterable[pa.RecordBatch]) -> str:
    """Stores columns with entries about samples for good; the same content again changes nothing.

    Args:
        dataset: whose samples they are about.
        kind: what they are, such as ``trained`` or ``scores``.
        batches: at least one, of one schema: integers and floats without nulls. Any number of rows, also none; small
            batches are joined and large ones split on the way.

    Returns:
        The digest of the content, under which it is found again.

    Raises:
        InvalidInputError: the batches are not like that; nothing was stored.
        Exception: whatever ``batches`` raises, as it is; nothing was stored.
    """
    failure: list[Exception] = []

    def messages() -> Iterator[StoreSampleColumnsRequest]:
        yield StoreSampleColumnsRequest(header=SampleColumnsHeader(dataset=dataset, kind=kind))
        num_rows = 0
        try:
            for batch in _message_sized(batches):
                num_rows += batch.num_rows
                yield StoreSampleColumnsRequest(batch=encode_batch(batch))
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            failure.append(error)
            return  # without the last message, so that nothing is stored
        yield StoreSampleColumnsRequest(num_rows=num_rows)

    try:
        return stub.StoreSampleColumns(messages()).digest
    except ModynError:
        if failure:
            raise failure[0] from None
        raise


def describe_sample_columns(stub: SelectorStub, digest: str) -> SampleColumns:
    """Dataset, kind, number of rows and names of stored columns.

    Raises:
        NotFoundError: there are none of this digest.
        CorruptDataError: their file is damaged.
    """
    return stub.DescribeSampleColumns(DescribeSampleColumnsRequest(digest=digest))


def stream_sample_columns(
    stub: SelectorStub, digest: str, *, offset: int = 0, count: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Stored columns in batches of about 1 MiB, at least one; errors as of :func:`read_sample_columns`.

    Args:
        digest: of the columns.
        offset, count: rows ``[offset, offset + count)``; by default to the end.
    """
    stream = stub.ReadSampleColumns(ReadSampleColumnsRequest(digest=digest, offset=offset, count=count))
    try:
        for message in arrow_stream(stream):
            yield decode_batch(message)
    finally:
        cancel(stream)


def read_sample_columns(stub: SelectorStub, digest: str, *, offset: int = 0, count: int | None = None) -> pa.Table:
    """Stored columns as one table whose columns are single chunks.

    Raises:
        NotFoundError: there are none of this digest.
        CorruptDataError: their file is damaged.
        InvalidInputError: there are no such rows.
    """
    batches = list(stream_sample_columns(stub, digest, offset=offset, count=count))
    return pa.Table.from_batches([pa.concat_batches(batches).replace_schema_metadata(None)])


def _message_sized(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about 1 MiB."""
    held: list[pa.RecordBatch] = []
    num_held = 0
    for batch in batches:
        # Batches of another schema are for the server to refuse.
        if held and (num_held >= _rows(held[0]) or batch.schema != held[0].schema):
            yield from _split(pa.concat_batches(held))
            held, num_held = [], 0
        held.append(batch)
        num_held += batch.num_rows
    if held:
        yield from _split(pa.concat_batches(held))


def _split(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for part in slices(batch.num_rows, _rows(batch)) if batch.num_rows else [slice(0, 0)]:
        yield batch.slice(part.start, part.stop - part.start)


def _rows(batch: pa.RecordBatch) -> int:
    return rows_per_message(batch.nbytes / max(batch.num_rows, 1))
