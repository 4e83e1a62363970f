"""Waiting for arrivals of a live pipeline without missing the moments at which its trigger wants to look."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

from modyn.core.plugins.triggers import Arrivals
from modyn.supervisor.arrivals import ArrivalSource

GRACE_SECONDS = 2.0
"""How much later than asked for a trigger looks again: a sample that storage committed before that moment may still be
on its way, and a replay would show it before."""

MAX_PIECES = 8
"""Pieces of arrivals that wait while a training runs; beyond them storage is not read any further."""

_POLL_SECONDS = 0.5


class Paced:
    """Arrivals of a source as they come; None whenever it is time to look again without any.

    Args:
        source: is read by a thread of its own.
        next_look: when to look again, Unix seconds, or None; asked before every wait.
    """

    def __init__(self, source: ArrivalSource, next_look: Callable[[], float | None]) -> None:
        self._source = source
        self._next_look = next_look
        self._pieces: queue.Queue[Arrivals | BaseException | None] = queue.Queue(MAX_PIECES)
        self._woken = threading.Event()
        self._ended = threading.Event()

    def wake(self) -> None:
        """Makes the iteration answer None soon; safe from any thread."""
        self._woken.set()

    def __iter__(self) -> Iterator[Arrivals | None]:
        reader = threading.Thread(target=self._read, name="arrivals", daemon=True)
        reader.start()
        try:
            yield from self._paced()
        finally:
            self._ended.set()
            self._source.stop()
            reader.join()

    def _paced(self) -> Iterator[Arrivals | None]:
        while True:
            try:
                piece = self._pieces.get(timeout=self._patience())
            except queue.Empty:
                due = self._next_look()
                if self._woken.is_set() or (due is not None and time.time() >= due):
                    self._woken.clear()
                    yield None
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def _patience(self) -> float:
        if self._woken.is_set():
            return 0.001
        due = self._next_look()
        return _POLL_SECONDS if due is None else min(max(due - time.time(), 0.001), _POLL_SECONDS)

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for piece in self._source:
                if not self._put(piece):
                    return
        except BaseException as error:  # noqa: BLE001 - raised by the thread that iterates
            last = error
        self._put(last)

    def _put(self, piece: Arrivals | BaseException | None) -> bool:
        while not self._ended.is_set():
            try:
                self._pieces.put(piece, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
