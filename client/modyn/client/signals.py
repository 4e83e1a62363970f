"""Ctrl-C and SIGTERM while a pipeline runs: the first asks it to stop, the second gives up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal ends the command. No :class:`Exception`, so that nothing on the way treats it as a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    @property
    def exit_status(self) -> int:
        """As a shell reports it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


class StopOnSignal:
    """While entered, the first SIGINT or SIGTERM calls ``stop`` in a thread, and the second raises.

    A third one, while the second is being handled, ends the process at once; its children die with it.

    Args:
        stop: asks for a clean end; must not raise.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._previous: dict[int, Any] = {}
        self._count = 0
        self.received: Interrupted | None = None
        """The first signal, if one came."""

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, Interrupted):
            return  # keep counting while everything is taken down
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self.received = Interrupted(number)
            # Not here: the interrupted code may hold the locks that stopping needs.
            threading.Thread(target=self._stop, name="stop", daemon=True).start()
        elif self._count == 2:
            raise Interrupted(number)
        else:
            os._exit(Interrupted(number).exit_status)
