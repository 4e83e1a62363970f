"""Children that are forked ahead of their jobs: what every job does first is done before there is one.

They belong to the fork server (:mod:`modyn.core.forkserver`). A standby has run no user code and read no data; what it
did ahead (``warm_up``) must not show in what a job does, but for its speed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, NoReturn

SPARES = 2
"""Standbys kept: a training that ends and the evaluation of its model start within a few milliseconds."""

PAUSE_SECONDS = 0.25
"""A standby that became a job is replaced as soon as some job ends, but no later than this: making one takes a
processor for a moment, and a job that just started needs it more."""

IDLE_SECONDS = 300.0
"""Standbys that were not needed for so long end, and take their memory (some 20 MB each) with them."""

PATIENCE_SECONDS = 2.0
"""How long a job waits for a standby that is being made; then a process is forked for it as if there were none."""

MAX_MESSAGE_BYTES = 64 << 10
_WARM = b"warm"


@dataclass
class Request:
    """A job that was asked for: its description, and the job's end of its connection."""

    fields: dict[str, Any]
    fd: int
    deadline: float = 0.0


@dataclass(eq=False)
class Standby:
    """A child that waits for a job, as the fork server sees it."""

    pid: int
    channel: socket.socket
    warm: bool = False

    def hear(self) -> bool:
        """Its channel can be read: it is ready now, or it died (False)."""
        with contextlib.suppress(OSError):
            self.warm = self.channel.recv(len(_WARM)) == _WARM
            return self.warm
        return False

    def hand_over(self, request: Request) -> bool:
        """Makes it a job; False if it died a moment ago."""
        with contextlib.suppress(OSError):
            return socket.send_fds(self.channel, [json.dumps(request.fields).encode()], [request.fd]) > 0
        return False


class Standbys:
    """The standbys of a fork server, the one job that may wait for one, and when to make and end them."""

    def __init__(self) -> None:
        self.warm_up: tuple[str, str] | None = None
        """Entry point ``module:function`` and its argument; None: no standby is wanted."""
        self.there: list[Standby] = []
        self._waiting: Request | None = None
        self._due: float | None = None
        self._idle_since = 0.0

    # ------------------------------------------------------------------------------------------------- when

    def make_soon(self, seconds: float = 0.0) -> None:
        """Jobs come and go: those that are missing are made after so many seconds, if not before."""
        self._idle_since = time.monotonic()
        if self.warm_up is not None and len(self.there) < SPARES:
            due = self._idle_since + seconds
            self._due = due if self._due is None else min(due, self._due)

    def is_due(self) -> bool:
        """Whether one should be forked now; one after the other, to leave processors to jobs."""
        return self._due is not None and not self._making and time.monotonic() >= self._due

    def is_idle(self) -> bool:
        """Whether those there were not needed for long."""
        return bool(self.there) and time.monotonic() >= self._idle_since + IDLE_SECONDS

    def overdue(self) -> Request | None:
        """The job that waits, if it has waited too long; it does not wait any more."""
        if self._waiting is None or time.monotonic() < self._waiting.deadline:
            return None
        return self.waited()

    def timeout(self) -> float | None:
        """Seconds until one of the above changes by itself."""
        moments = [] if self._due is None or self._making else [self._due]
        if self._waiting is not None:
            moments.append(self._waiting.deadline)
        if self.there:
            moments.append(self._idle_since + IDLE_SECONDS)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    # ------------------------------------------------------------------------------------------------- what

    def add(self, standby: Standby) -> None:
        """It was just forked."""
        self.there.append(standby)
        if len(self.there) == SPARES:
            self._due = None

    def taker(self) -> Standby | None:
        """One that takes a job now."""
        return next((standby for standby in self.there if standby.warm), None)

    def wait(self, request: Request) -> bool:
        """Whether a job can wait for the one that is being made."""
        if not self._making or self._waiting is not None:
            return False
        request.deadline = time.monotonic() + PATIENCE_SECONDS
        self._waiting = request
        return True

    def waited(self) -> Request | None:
        """The job that waits; it does not any more."""
        request, self._waiting = self._waiting, None
        return request

    def remove(self, standby: Standby) -> None:
        """It is a job now, or not needed: then it ends by itself."""
        self.there.remove(standby)
        standby.channel.close()

    def died(self) -> None:
        """One died by itself: no other is made before the next job, for that may well die too."""
        self._due = None

    def let_go(self) -> None:
        """Closes, in a child, what belongs to the fork server."""
        for standby in self.there:
            standby.channel.close()
        if self._waiting is not None:
            os.close(self._waiting.fd)

    @property
    def _making(self) -> bool:
        return any(not standby.warm for standby in self.there)


def stand_by(channel: socket.socket, warm_up: tuple[str, str]) -> tuple[dict[str, Any], int]:
    """The child's side: warms up, then waits for a job; ends with its server.

    Returns:
        The job's description, and the descriptor of its connection.
    """
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # until it is a job it has nothing to say
    os.dup2(quiet, 2)
    os.close(quiet)
    entry, argument = warm_up
    module, _, attribute = entry.partition(":")
    with contextlib.suppress(Exception):  # the job does it itself then, and says what is wrong
        getattr(importlib.import_module(module), attribute)(argument)
    try:
        channel.send(_WARM)
        message, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, 1)
    except OSError:
        _end()
    if not message:
        _end()
    channel.close()
    fields: dict[str, Any] = json.loads(message)
    return fields, fds[0]


def _end() -> NoReturn:
    os._exit(0)  # no clean-up of what belongs to the parent
