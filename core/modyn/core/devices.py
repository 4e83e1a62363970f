"""Who may compute when: the slots of this machine's devices, the queue for them, and who waits in it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

from modyn.core.errors import CancelledError
from modyn.core.jobs import Job

QUEUE_POLL_SECONDS = 0.5
"""How often somebody in a queue looks whether its caller is still there; a slot that gets free wakes it at once."""


class Caller:
    """Whoever waits for the result of a job; may go away at any time.

    Args:
        is_active: whether somebody still waits.
        on_gone: registers a callback for when nobody does; answers False if that is the case already.
    """

    def __init__(self, is_active: Callable[[], bool], on_gone: Callable[[Callable[[], None]], bool]) -> None:
        self.is_active = is_active
        self._on_gone = on_gone

    def kill_when_gone(self, job: Job) -> None:
        """Nobody needs the job's result once the caller has gone away, or if it has already."""
        if not self._on_gone(job.cancel):
            job.cancel()


class Slots:
    """Slots of one device: jobs run at once as long as what they occupy fits, first come first served.

    >>> slots = Slots(2)
    >>> with slots.ticket(occupies=2) as ticket:
    ...     ticket.wait(), slots.ticket().position
    (True, 1)

    Args:
        capacity: how much there is, such as 1 for a GPU or the number of cores.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = capacity
        self._queue: deque[Ticket] = deque()
        self._lock = threading.Condition()

    def ticket(self, occupies: int = 1) -> Ticket:
        """Joins the queue; leave it by closing the ticket.

        Args:
            occupies: how much of the device the job takes; one that wants more than there is takes all of it.
        """
        ticket = Ticket(self, min(occupies, self._capacity))
        with self._lock:
            self._queue.append(ticket)
            self._grant()
        return ticket

    def _grant(self) -> None:
        while self._queue and self._queue[0].occupies <= self._free:
            ticket = self._queue.popleft()
            self._free -= ticket.occupies
            ticket.granted = True
        self._lock.notify_all()

    def position(self, ticket: Ticket) -> int:
        """How many are before this ticket in the queue, itself counted; 0 once it is granted."""
        with self._lock:
            return 0 if ticket.granted else self._queue.index(ticket) + 1

    def wait(self, ticket: Ticket, timeout_seconds: float | None) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: ticket.granted, timeout_seconds)

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket.granted:
                ticket.granted = False
                self._free += ticket.occupies
            elif ticket in self._queue:
                self._queue.remove(ticket)
            self._grant()


class Ticket:
    """A place in the queue for a device; a context manager that gives it back."""

    def __init__(self, slots: Slots, occupies: int) -> None:
        self._slots = slots
        self.occupies = occupies
        self.granted = False

    @property
    def position(self) -> int:
        return self._slots.position(self)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Waits for the slot; False if the timeout came first."""
        return self._slots.wait(self, timeout_seconds)

    def queue(self, caller: Caller, what: str) -> Iterator[int]:
        """Waits for the slot; yields the position whenever it changed, and nothing if the slot is free.

        Args:
            caller: for whom the slot is.
            what: for messages, such as ``training``.

        Raises:
            CancelledError: the caller went away meanwhile.
        """
        announced = 0
        while position := self.position:
            if position != announced:
                yield position
                announced = position
            self.wait(QUEUE_POLL_SECONDS)
            if not caller.is_active():
                raise CancelledError(f"the call was cancelled while the {what} was queued")

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._slots.leave(self)


class Devices:
    """The slots of each device of this machine, by name (``cpu``, ``cuda``, ``cuda:N``).

    A job occupies as many of the CPU's slots as it has threads, so that small trainings of several pipelines run side
    by side and large ones do not get in each other's way; a GPU serves one job at a time.
    """

    def __init__(self) -> None:
        self._slots: dict[str, Slots] = {}
        self._lock = threading.Lock()

    def ticket(self, device: str, threads: int) -> Ticket:
        """Joins the queue of a device."""
        on_cpu = device == "cpu"
        name = "cuda:0" if device == "cuda" else device
        with self._lock:
            slots = self._slots.setdefault(name, Slots((os.cpu_count() or 1) if on_cpu else 1))
        return slots.ticket(threads if on_cpu else 1)
