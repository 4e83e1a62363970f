"""Where arrivals come from: a replay walks the dataset, live mode follows its cursor. The loop cannot tell.

Samples that are for tests only are no arrivals: they neither drive triggers nor reach a training set.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from modyn.core.arrow import int64_column
from modyn.core.errors import CancelledError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.triggers import Arrivals
from modyn.core.rpc import cancel
from modyn.proto.storage_pb2 import TEST, TRAINING, ReadColumnsRequest, WatchDatasetRequest
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import stream_columns
from modyn.supervisor.datasets import interval_of
from modyn.supervisor.options import RunOptions

TIMESTAMP = ReadColumnsRequest.TIMESTAMP
ARRIVAL = ReadColumnsRequest.ARRIVAL
ROLE = ReadColumnsRequest.ROLE


class ArrivalSource(ABC):
    """An iterable of :class:`Arrivals`."""

    @abstractmethod
    def __iter__(self) -> Iterator[Arrivals]:
        """Arrivals in pieces of any size, until they end or :meth:`stop` is called."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the iteration soon; safe from any thread."""


class ReplaySource(ArrivalSource):
    """A stretch of a dataset as it was when the replay began (keys below ``end_key``)."""

    def __init__(self, storage: StorageStub, dataset: str, options: RunOptions, end_key: int) -> None:
        self._storage = storage
        self._dataset = dataset
        self._options = options
        self._end_key = end_key
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Arrivals]:
        batches = self._by_arrival() if self._options.order == "arrival" else self._by_event_time()
        for batch in batches:
            if self._stopped.is_set():
                return
            arrivals = _arrivals(batch)
            if self._options.order == "event" and self._options.start_key:
                kept = arrivals.keys >= self._options.start_key
                arrivals = Arrivals(arrivals.keys[kept], arrivals.timestamps[kept])
            if len(arrivals):
                yield arrivals

    def _by_event_time(self) -> Iterator[pa.RecordBatch]:
        return stream_columns(
            self._storage,
            self._dataset,
            interval_of(self._options.start, self._options.stop),
            columns=[TIMESTAMP],
            order=ReadColumnsRequest.EVENT_TIME,
            end_key=self._end_key,
            purpose=TRAINING,
        )

    def _by_arrival(self) -> Iterator[pa.RecordBatch]:
        keys = KeySet.from_ranges([KeyRange(self._options.start_key or 0, self._end_key)])
        return stream_columns(
            self._storage,
            self._dataset,
            keys,
            columns=[TIMESTAMP, ARRIVAL, ROLE],
            order=ReadColumnsRequest.REQUEST,  # superseded samples too: a live pipeline saw them when they arrived
            arrival=interval_of(self._options.start, self._options.stop),
        )

    def stop(self) -> None:
        self._stopped.set()


class LiveSource(ArrivalSource):
    """Whatever is committed to a dataset from a cursor on, pushed by storage."""

    def __init__(self, storage: StorageStub, dataset: str, start_key: int) -> None:
        self._storage = storage
        self._dataset = dataset
        self._cursor = start_key
        self._stopped = threading.Event()
        self._stream: object | None = None
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Arrivals]:
        with self._lock:
            if self._stopped.is_set():
                return
            stream = self._storage.WatchDataset(WatchDatasetRequest(dataset=self._dataset, cursor=self._cursor))
            self._stream = stream
        try:
            for new in stream:
                yield from self._read(KeyRange(new.keys.start, new.keys.end))
                if self._stopped.is_set():
                    return
        except CancelledError:
            if not self._stopped.is_set():
                raise

    def _read(self, keys: KeyRange) -> Iterator[Arrivals]:
        batches = stream_columns(
            self._storage,
            self._dataset,
            KeySet.from_ranges([keys]),
            columns=[TIMESTAMP, ARRIVAL, ROLE],
            order=ReadColumnsRequest.REQUEST,  # all of them, whether or not a later commit has superseded some already
        )
        for batch in batches:
            if len(arrivals := _arrivals(batch)):
                yield arrivals

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            if self._stream is not None:
                cancel(self._stream)


def _arrivals(batch: pa.RecordBatch) -> Arrivals:
    """Samples by their columns; with a column of roles, those that training may see.

    Keys are asked for with their roles, because storage refuses for training keys that it may not see.
    """
    keys, timestamps = int64_column(batch, "key"), int64_column(batch, "timestamp").astype(np.int64, copy=False)
    if "role" not in batch.schema.names:  # by event time
        return Arrivals(keys, timestamps)
    arrived = int64_column(batch, "arrival")
    trainable = batch.column("role").to_numpy(zero_copy_only=False) != TEST
    if trainable.all():
        return Arrivals(keys, timestamps, arrived)
    return Arrivals(keys[trainable], timestamps[trainable], arrived[trainable])
