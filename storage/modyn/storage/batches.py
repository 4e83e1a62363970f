"""Client side of reading samples: from the service, or straight from its files where they are on the same host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa

from modyn.core.arrow import MESSAGE_BYTES, Int64Array, decode_batch
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KEYS_PER_MESSAGE, KeyRange, KeySet
from modyn.core.memory import keep_freed_memory
from modyn.core.rpc import arrow_stream, cancel
from modyn.proto.common_pb2 import ArrowMessage
from modyn.proto.storage_pb2 import LabelsAsOf, Purpose, ReadSamplesRequest
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.local import LocalReader
from modyn.storage.prefetch import Prefetched

FIXED_COLUMNS = 3
"""A sample message starts with key, label and timestamp; payload columns follow by position, whatever their names."""

RANGES_PER_MESSAGE = KEYS_PER_MESSAGE // 4
RANGED_KEYS_PER_MESSAGE = 1 << 20
"""Keys that one request asks for as ranges; some answers hold a value for each."""


NEXT_CALL_AFTER = 0.75
"""The next request is sent when this share of the samples of the one before it is there."""


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

    @property
    def nbytes(self) -> int:
        """Bytes of everything."""
        return sum(part.nbytes for part in (self.keys, self.labels, self.timestamps, *self.columns.values()))

    def slice(self, start: int, count: int) -> SampleBatch:
        """Consecutive samples, without a copy."""
        rows = slice(start, start + count)
        columns = {name: column.slice(start, count) for name, column in self.columns.items()}
        return SampleBatch(self.keys[rows], self.labels.slice(start, count), self.timestamps[rows], columns)

    def take(self, rows: Int64Array) -> SampleBatch:
        """Samples at some places, in this order."""
        index = pa.array(rows)
        columns = {name: column.take(index) for name, column in self.columns.items()}
        return SampleBatch(self.keys[rows], self.labels.take(index), self.timestamps[rows], columns)

    @staticmethod
    def join(parts: Sequence[SampleBatch]) -> SampleBatch:
        """All of some, one after the other; at least one, and all with the same columns."""
        if len(parts) == 1:
            return parts[0]
        return SampleBatch(
            np.concatenate([part.keys for part in parts]),
            pa.concat_arrays([part.labels for part in parts]),
            np.concatenate([part.timestamps for part in parts]),
            {name: pa.concat_arrays([part.columns[name] for part in parts]) for name in parts[0].columns},
        )


def read_samples(
    stub: StorageStub,
    dataset: str,
    keys: KeySet,
    *,
    batch_size: int,
    columns: Sequence[str] = (),
    labels: LabelsAsOf | None = None,
    purpose: Purpose.ValueType = Purpose.PURPOSE_UNSPECIFIED,
    prefetch_messages: int = 4,
    local: bool | None = None,
) -> Iterator[SampleBatch]:
    """Samples in the order of ``keys``, in batches of exactly ``batch_size`` (the last may be smaller).

    Deleted samples are left out.

    Args:
        columns: payload columns to read; all by default.
        labels: which version of labels; the newest by default.
        purpose: with ``TRAINING``, keys of samples that training may not see are refused.
        prefetch_messages: how many MiB of samples, but at least a batch, a background thread fetches ahead. It stops
            when the iterator is exhausted or closed.
        local: whether to read the files of the storage service directly: yes, no, or by default if they are on this
            host. Samples are the same.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: a key or column does not exist, or ``batch_size`` is not positive.
        CorruptDataError: a segment is damaged; the message names it.
        NotAvailableError: ``local`` is true and the files of the service cannot be read here.
    """
    blocks = SampleBlocks(
        stub,
        dataset,
        request_keys(keys, batch_size),
        batch_size=batch_size,
        columns=columns,
        labels=labels,
        purpose=purpose,
        prefetch_messages=prefetch_messages,
        local=local,
    )
    try:
        for block in blocks:
            yield from _cut(block, batch_size)
    finally:
        blocks.close()


class SampleBlocks:
    """The samples of many key sets, one set after the other, many batches at a time. A thread reads ahead, from now on.

    Iterate once; in the end, or before, call :meth:`close`.

    Args:
        keys: what to read, one request for each set. They are made in the thread, as they are needed.
        batch_size: blocks have a multiple of so many rows, but for the last one.

    The other arguments, and what iterating raises, are those of :func:`read_samples`.

    Raises:
        InvalidInputError: ``batch_size`` is not positive.
    """

    def __init__(
        self,
        stub: StorageStub,
        dataset: str,
        keys: Iterable[KeySet],
        *,
        batch_size: int,
        columns: Sequence[str] = (),
        labels: LabelsAsOf | None = None,
        purpose: Purpose.ValueType = Purpose.PURPOSE_UNSPECIFIED,
        prefetch_messages: int = 4,
        local: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size {batch_size}: expected at least 1")
        keep_freed_memory()

        def request(part: KeySet) -> ReadSamplesRequest:
            return ReadSamplesRequest(
                dataset=dataset,
                keys=part.to_proto(),
                columns=columns,
                labels=labels,
                purpose=purpose,
                batch_rows=batch_size,
            )

        reader = None if local is False else LocalReader(stub, batch_size, required=local is True)
        answers = _Answers(stub, iter(keys), request, reader)
        self._blocks = Prefetched(
            _whole_batches(answers, batch_size),
            max_bytes=max(1, prefetch_messages) * MESSAGE_BYTES,
            size=lambda block: int(block.nbytes),
            cancel=answers.cancel,
        )

    def __iter__(self) -> Iterator[SampleBatch]:
        for block in self._blocks:
            yield _as_samples(block)

    def close(self) -> None:
        """Stops reading; another thread that iterates gets no more blocks."""
        self._blocks.close()


class _Answers:
    """The record batches that a read is answered with, request after request.

    Args:
        parts: keys for one request each.
        request: for such keys.
    """

    def __init__(
        self,
        stub: StorageStub,
        parts: Iterator[KeySet],
        request: Callable[[KeySet], ReadSamplesRequest],
        local: LocalReader | None,
    ) -> None:
        self._stub = stub
        self._parts = parts
        self._request = request
        self._local = local
        self._called: list[object] = []
        self._cancelled = False
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for part in self._parts:
            found = None if self._local is None else self._local.batches(self._request(part))
            if found is None:  # what one request could not be answered by, the next ones neither
                yield from self._by_service(part)
                return
            yield from found

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            for stream in self._called:
                cancel(stream)

    def _by_service(self, part: KeySet | None) -> Iterator[pa.RecordBatch]:
        """Answers for this and all further parts; the next call is made before one ends, so that nobody waits."""
        stream = self._call(part)
        while part is not None and stream is not None:
            rows, left = 0, int(len(part) * NEXT_CALL_AFTER)
            part, following = None, None
            for message in arrow_stream(stream):
                batch = decode_batch(message)
                rows += batch.num_rows
                if part is None and rows >= left:
                    part = next(self._parts, None)
                    following = self._call(part)
                yield batch
            if part is None:  # few samples are left of those that were asked for
                part = next(self._parts, None)
                following = self._call(part)
            stream = following

    def _call(self, part: KeySet | None) -> Iterator[ArrowMessage] | None:
        with self._lock:  # so that cancel() sees every stream
            if part is None or self._cancelled:
                return None
            stream = self._stub.ReadSamples(self._request(part))
            self._called = [*self._called[-1:], stream]
            return stream


def request_keys(keys: KeySet, batch_size: int) -> Iterator[KeySet]:
    """Key sets of a size for one request; all but the last hold whole batches."""
    if keys.array is not None:
        step = KEYS_PER_MESSAGE - KEYS_PER_MESSAGE % min(batch_size, KEYS_PER_MESSAGE)
        for start in range(0, len(keys), step):
            yield KeySet(array=keys.array[start : start + step])
        return
    step = max(1, RANGED_KEYS_PER_MESSAGE // batch_size) * batch_size
    ranges: list[KeyRange] = []
    free = step
    for whole in keys.ranges or ():
        start = whole.start
        while start < whole.end:
            piece = KeyRange(start, min(whole.end, start + free))
            ranges.append(piece)
            start, free = piece.end, free - len(piece)
            if free == 0 or len(ranges) == RANGES_PER_MESSAGE:
                yield KeySet(ranges=tuple(ranges))
                ranges, free = [], step
    if ranges:
        yield KeySet(ranges=tuple(ranges))


def _whole_batches(batches: Iterable[pa.RecordBatch], batch_size: int) -> Iterator[pa.RecordBatch]:
    """Record batches of a multiple of ``batch_size`` rows, but for the last; copies only where one spans several."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        start = 0
        if rows:
            start = min(batch_size - rows, batch.num_rows)
            pending.append(batch.slice(0, start))
            rows += start
            if rows < batch_size:
                continue
            yield pa.concat_batches(pending)
            pending, rows = [], 0
        whole = (batch.num_rows - start) // batch_size * batch_size
        if whole:
            yield batch.slice(start, whole)
        if start + whole < batch.num_rows:
            pending, rows = [batch.slice(start + whole)], batch.num_rows - start - whole
    if rows:
        yield pa.concat_batches(pending)


def _as_samples(block: pa.RecordBatch) -> SampleBatch:
    names = block.schema.names[FIXED_COLUMNS:]
    columns = block.columns
    keys, timestamps = (cast("Int64Array", columns[index].to_numpy()) for index in (0, 2))
    return SampleBatch(keys, columns[1], timestamps, dict(zip(names, columns[FIXED_COLUMNS:], strict=True)))


def _cut(block: SampleBatch, batch_size: int) -> Iterator[SampleBatch]:
    if len(block) <= batch_size:
        yield block
        return
    for start in range(0, len(block), batch_size):
        yield block.slice(start, min(batch_size, len(block) - start))
