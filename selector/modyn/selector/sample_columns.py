"""Columns with entries about samples, such as what a training really used: immutable files named by their content.

A file is Arrow IPC with the format version, dataset and kind in its schema's metadata. Its columns are integers or
floats without nulls. The digest covers these metadata and the columns' names, types and values: not how the rows were
split into batches.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pyarrow as pa

from modyn.core.arrow import decode_batch, encode_batch, rows_per_message, slices
from modyn.core.digests import DIGEST_BYTES, Digest
from modyn.core.errors import CancelledError, InvalidInputError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, fsync_file
from modyn.core.rpc import as_arrow_messages
from modyn.core.versions import SAMPLE_COLUMNS_FORMAT_VERSION
from modyn.proto.common_pb2 import ArrowMessage
from modyn.proto.selector_pb2 import (
    DescribeSampleColumnsRequest,
    ReadSampleColumnsRequest,
    SampleColumns,
    SampleColumnsHeader,
    StoreSampleColumnsRequest,
)
from modyn.proto.selector_pb2_grpc import SelectorServicer
from modyn.selector.contentfiles import ContentFiles, check_version, digest_of_metadata, little_endian

_DIGEST = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}")


class SampleColumnFiles(ContentFiles[pa.Table]):
    """A folder of such files. Safe to use from many threads."""

    what = "file of sample columns"

    def store(self, messages: Iterator[StoreSampleColumnsRequest]) -> SampleColumns:
        """Stores one file from a stream, with the memory of one batch. Durable on return.

        Args:
            messages: see ``StoreSampleColumnsRequest``.

        Raises:
            InvalidInputError: the stream is no header followed by batches of one schema and their number of rows.
            CancelledError: the stream was cut short; nothing was stored.
        """
        header = _header(next(messages, None))
        batches = _Batches(messages)
        first = next(batches, None)
        if first is None:
            raise InvalidInputError("StoreSampleColumns: expected at least one batch, perhaps without rows")
        schema = _schema(header, first)
        hashes = _Hashes(schema)
        with self._temporary() as temporary:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in _chain(first, batches):
                    checked = _checked(batch, schema)
                    hashes.add(checked)
                    writer.write_batch(checked)
            batches.check_complete()
            digest = hashes.hexdigest()
            # One that is there already has the same content, unless it is damaged: this one is not.
            fsync_file(temporary)
            os.replace(temporary, self.path(digest))
            fsync_directory(self._folder)
        return _message(digest, schema, batches.num_rows)

    def describe(self, digest: str) -> SampleColumns:
        """
        Raises:
            NotFoundError: there is no such file.
            CorruptDataError: it is damaged.
        """
        table = self.get(digest)
        return _message(digest, table.schema, table.num_rows)

    def read(self, digest: str, offset: int, count: int | None) -> Iterator[bytes]:
        """Rows ``[offset, offset + count)`` as bulk messages, at least one.

        Raises:
            NotFoundError: there is no such file.
            CorruptDataError: it is damaged.
            InvalidInputError: it has no such rows.
        """
        table = self.get(digest)
        stop = table.num_rows if count is None else offset + count
        if offset < 0 or stop < offset or stop > table.num_rows:
            raise InvalidInputError(
                f"sample columns {digest} have {table.num_rows} rows; cannot read "
                f"{'all' if count is None else count} from row {offset}"
            )
        rows = rows_per_message(sum(field.type.bit_width // 8 for field in table.schema))
        for part in slices(stop - offset, rows) if stop > offset else [slice(0, 0)]:
            yield encode_batch(_one_batch(table.slice(offset + part.start, part.stop - part.start)))

    def get(self, digest: str) -> pa.Table:
        if not _DIGEST.fullmatch(digest):  # it comes from callers, and becomes a path
            raise NotFoundError(f"there are no sample columns {digest!r}; expected a digest")
        return super().get(digest)

    def _load(self, reader: pa.RecordBatchFileReader) -> pa.Table:
        check_version(reader.schema.metadata or {}, SAMPLE_COLUMNS_FORMAT_VERSION)
        return reader.read_all()

    def _digest(self, content: pa.Table) -> str:
        hashes = _Hashes(content.schema)
        for batch in content.to_batches():
            hashes.add(batch)
        return hashes.hexdigest()

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A file whose name is decided when it is complete."""
        path = self._folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}.arrow"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


class SampleColumnsRpcs(SelectorServicer):
    """The rpcs of a selector about sample columns."""

    sample_columns: SampleColumnFiles

    def StoreSampleColumns(
        self, request_iterator: Iterator[StoreSampleColumnsRequest], context: grpc.ServicerContext
    ) -> SampleColumns:
        return self.sample_columns.store(request_iterator)

    def DescribeSampleColumns(
        self, request: DescribeSampleColumnsRequest, context: grpc.ServicerContext
    ) -> SampleColumns:
        return self.sample_columns.describe(request.digest)

    def ReadSampleColumns(
        self, request: ReadSampleColumnsRequest, context: grpc.ServicerContext
    ) -> Iterator[ArrowMessage]:
        count = request.count if request.HasField("count") else None
        return as_arrow_messages(self.sample_columns.read(request.digest, request.offset, count))


class _Batches:
    """The batches of a stream, up to the message that says how many rows they were."""

    def __init__(self, messages: Iterator[StoreSampleColumnsRequest]) -> None:
        self._messages = messages
        self._announced: int | None = None
        self.num_rows = 0

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> pa.RecordBatch:
        message = next(self._messages)
        if message.WhichOneof("part") == "num_rows" and self._announced is None:
            self._announced = message.num_rows
            return self.__next__()  # there is no other
        if message.WhichOneof("part") != "batch" or self._announced is not None:
            raise InvalidInputError("StoreSampleColumns: expected a header, then batches, then num_rows, and no more")
        batch = decode_batch(message.batch)
        self.num_rows += batch.num_rows
        return batch

    def check_complete(self) -> None:
        """
        Raises:
            CancelledError: the stream ended too early.
            InvalidInputError: it does not say what it has.
        """
        if self._announced is None:
            raise CancelledError("the caller of StoreSampleColumns went away; nothing was stored")
        if self._announced != self.num_rows:
            raise InvalidInputError(
                f"StoreSampleColumns: num_rows is {self._announced}, but the batches have {self.num_rows} rows"
            )


class _Hashes:
    """The digest of columns that come batch by batch: of the digests of each."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [Digest() for _ in schema]

    def add(self, batch: pa.RecordBatch) -> None:
        for column, digest in zip(batch.columns, self._columns, strict=True):
            digest.update(little_endian(column.to_numpy()))

    def hexdigest(self) -> str:
        digest = digest_of_metadata(self._schema.metadata)
        for field, column in zip(self._schema, self._columns, strict=True):
            name = field.name.encode()
            digest.update(b"%d:%s:%s=" % (len(name), name, str(field.type).encode()))
            digest.update(column.hexdigest().encode())
        return digest.hexdigest()


def _header(message: StoreSampleColumnsRequest | None) -> SampleColumnsHeader:
    if message is None or message.WhichOneof("part") != "header":
        raise InvalidInputError("StoreSampleColumns: expected a header as the first message")
    if not message.header.dataset or not message.header.kind:
        raise InvalidInputError("StoreSampleColumns: the header has no dataset or no kind")
    return message.header


def _schema(header: SampleColumnsHeader, batch: pa.RecordBatch) -> pa.Schema:
    names = batch.schema.names
    if not names or len(set(names)) < len(names) or not all(names):
        raise InvalidInputError(f"StoreSampleColumns: the columns are {names}; expected different names, at least one")
    for field in batch.schema:
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            raise InvalidInputError(f"column {field.name!r}: its type is {field.type}; expected an integer or a float")
    metadata = {
        "modyn.format_version": str(SAMPLE_COLUMNS_FORMAT_VERSION),
        "modyn.dataset": header.dataset,
        "modyn.kind": header.kind,
    }
    return pa.schema([pa.field(f.name, f.type, nullable=False) for f in batch.schema], metadata=metadata)


def _checked(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the file's schema.

    Raises:
        InvalidInputError: it has other columns, or nulls.
    """
    if batch.schema.names != schema.names or batch.schema.types != schema.types:
        found = ", ".join(f"{field.name} {field.type}" for field in batch.schema)
        expected = ", ".join(f"{field.name} {field.type}" for field in schema)
        raise InvalidInputError(f"StoreSampleColumns: a batch has the columns {found}; the first one had {expected}")
    for field, column in zip(schema, batch.columns, strict=True):
        if column.null_count:
            raise InvalidInputError(f"column {field.name!r}: {column.null_count} entries are null; expected numbers")
    return pa.record_batch(batch.columns, schema=schema)


def _message(digest: str, schema: pa.Schema, num_rows: int) -> SampleColumns:
    metadata = schema.metadata
    dataset, kind = metadata[b"modyn.dataset"].decode(), metadata[b"modyn.kind"].decode()
    return SampleColumns(digest=digest, dataset=dataset, kind=kind, num_rows=num_rows, names=schema.names)


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    batches = rows.to_batches()
    return pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)


def _chain(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
