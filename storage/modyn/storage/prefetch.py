"""Fetching the messages of bulk streams ahead of their consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator

from modyn.core.rpc import arrow_stream, cancel
from modyn.proto.common_pb2 import ArrowMessage


class Prefetched:
    """The messages of several streams, one after the other, fetched ahead by a thread."""

    def __init__(self, streams: Iterable[Iterable[ArrowMessage]], depth: int) -> None:
        self._streams = iter(streams)  # each is opened when it is its turn
        self._items: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._free = threading.Semaphore(max(1, depth))
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._stream: object | None = None
        self._thread = threading.Thread(target=self._fetch, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._items.get()) is not None:
            self._free.release()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stops fetching; returns when the thread has ended."""
        with self._lock:
            self._stopped.set()
            if self._stream is not None:
                cancel(self._stream)
        self._free.release()
        self._thread.join()

    def _open_next(self) -> Iterable[ArrowMessage] | None:
        with self._lock:  # so that close() always sees the stream it has to cancel
            stream = None if self._stopped.is_set() else next(self._streams, None)
            self._stream = stream
            return stream

    def _fetch(self) -> None:
        try:
            while (stream := self._open_next()) is not None:
                for message in arrow_stream(stream):
                    self._free.acquire()
                    if self._stopped.is_set():
                        return
                    self._items.put(message)
            self._items.put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            self._items.put(error)
