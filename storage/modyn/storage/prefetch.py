"""Making the items of iterators ahead of their consumer, in a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetched(Generic[T]):
    """The items of an iterator, made ahead by a thread.

    Args:
        items: what is iterated over; only in the thread.
        max_bytes: how much is made ahead; one item may be larger.
        size: bytes of an item.
        cancel: makes ``items`` end soon; called from another thread when the consumer stops early.
    """

    def __init__(
        self, items: Iterable[T], *, max_bytes: int, size: Callable[[T], int], cancel: Callable[[], None] | None = None
    ) -> None:
        self._items = items
        self._max_bytes = max_bytes
        self._size = size
        self._cancel = cancel
        self._ready: deque[T] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._stopped = False
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fetch, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not self._ready and not self._ended:
                    self._changed.wait()
                if not self._ready:
                    break
                item = self._ready.popleft()
                self._bytes -= self._size(item)
                self._changed.notify_all()
            yield item
            del item  # its memory can be used again once the consumer is done with it
        if self._error is not None:
            raise self._error

    @property
    def exhausted(self) -> bool:
        """Whether all items were taken and none failed; not before the thread has found that there are no more."""
        with self._changed:
            return self._ended and not self._ready and self._error is None

    def close(self) -> None:
        """Stops; returns when the thread has ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._cancel is not None:
            self._cancel()
        self._thread.join()

    def _fetch(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            while self._ready and self._bytes + self._size(item) > self._max_bytes and not self._stopped:
                self._changed.wait()
            if not self._stopped:
                self._ready.append(item)
                self._bytes += self._size(item)
                self._changed.notify_all()
            return not self._stopped
