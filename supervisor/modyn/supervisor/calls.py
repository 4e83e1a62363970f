"""Calls in flight of one pipeline, so that a stop can cancel them from another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from modyn.core.errors import CancelledError
from modyn.core.rpc import cancel

T = TypeVar("T")


class StopSignal:
    """Two ways to end a pipeline: ``stop`` (its data and trainings) and ``kill`` (everything, at once)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._killed = False
        self._streams: dict[object, bool] = {}  # stream -> cancelled by a mere stop

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def killed(self) -> bool:
        return self._killed

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            streams = [stream for stream, on_stop in self._streams.items() if on_stop]
        for stream in streams:
            cancel(stream)

    def kill(self) -> None:
        with self._lock:
            self._stopped = self._killed = True
            streams = list(self._streams)
        for stream in streams:
            cancel(stream)

    @contextmanager
    def cancellable(self, stream: T, *, on_stop: bool) -> Iterator[T]:
        """While the block runs, a kill (or also a stop) cancels the server stream or pending call.

        Raises:
            CancelledError: the pipeline was stopped or killed before.
        """
        with self._lock:
            too_late = self._killed or (on_stop and self._stopped)
            if not too_late:
                self._streams[stream] = on_stop
        if too_late:
            cancel(stream)
            raise CancelledError("the pipeline is stopping")
        try:
            yield stream
        finally:
            with self._lock:
                del self._streams[stream]
