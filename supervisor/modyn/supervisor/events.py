"""What a pipeline says while it runs: a bounded log that any number of watchers follow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from modyn.proto import supervisor_pb2 as pb

MAX_EVENTS = 10_000
"""Kept for watchers that come late; older ones are dropped."""

PROGRESS_INTERVAL_SECONDS = 0.1
"""Progress of one kind is recorded at most this often."""


class EventLog:
    """An append-only log of :class:`PipelineEvent`, closed with the pipeline's last status."""

    def __init__(self) -> None:
        self._events: deque[pb.PipelineEvent] = deque(maxlen=MAX_EVENTS)
        self._next_seq = 0
        self._closed = False
        self._changed = threading.Condition()
        self._last_progress: dict[str, float] = {}

    def add(self, *, progress: bool = False, **kind: Any) -> None:
        """Records one event, such as ``add(notice="…")``.

        Args:
            progress: it may be dropped because the next one of its kind says more.
        """
        name = next(iter(kind))
        now = time.time()
        with self._changed:
            if progress and now - self._last_progress.get(name, 0.0) < PROGRESS_INTERVAL_SECONDS:
                return
            self._last_progress[name] = now
            self._events.append(pb.PipelineEvent(seq=self._next_seq, unix_time=now, **kind))
            self._next_seq += 1
            self._changed.notify_all()

    def close(self) -> None:
        """No more events; watchers end after the last one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def follow(self, from_seq: int, is_active: Callable[[], bool]) -> Iterator[pb.PipelineEvent]:
        """Events from a sequence number on, until the log is closed or the watcher is gone."""
        seq = from_seq
        while True:
            with self._changed:
                self._changed.wait_for(partial(self._has_news, seq, is_active), timeout=1.0)
                ready = [event for event in self._events if event.seq >= seq]
                ended = self._closed
            yield from ready
            seq = ready[-1].seq + 1 if ready else seq
            if not is_active() or (ended and not ready):
                return

    def _has_news(self, seq: int, is_active: Callable[[], bool]) -> bool:
        return self._closed or self._next_seq > seq or not is_active()

    def wake(self) -> None:
        """Lets watchers notice that their client is gone."""
        with self._changed:
            self._changed.notify_all()
