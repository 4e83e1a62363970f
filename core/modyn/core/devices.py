"""Who may compute when: the slots of this machine's devices, the queue for them, and who waits in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
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


class _Board:
    """What there is of several things, and who waits for some of them.

    A ticket gets all it wants at once or waits, so that two that want the same things cannot wait for each other. First
    come first served, among those that want any of the same.
    """

    def __init__(self) -> None:
        self._free: dict[str, int] = {}
        self._queue: list[Ticket] = []
        self._lock = threading.Condition()

    def provide(self, thing: str, capacity: int) -> None:
        """There is so much of it; said before anybody wants it, once or again."""
        with self._lock:
            self._free.setdefault(thing, capacity)

    def ticket(self, wants: Mapping[str, int]) -> Ticket:
        ticket = Ticket(self, wants)
        with self._lock:
            self._queue.append(ticket)
            self._grant()
        return ticket

    def _grant(self) -> None:
        promised: set[str] = set()  # to those who came before
        waiting: list[Ticket] = []
        for ticket in self._queue:
            fits = all(count <= self._free[thing] for thing, count in ticket.wants.items())
            if not fits or promised & ticket.wants.keys():
                waiting.append(ticket)
                promised |= ticket.wants.keys()
                continue
            for thing, count in ticket.wants.items():
                self._free[thing] -= count
            ticket.granted = True
        self._queue = waiting
        self._lock.notify_all()

    def position(self, ticket: Ticket) -> int:
        """How many are before this ticket in the queue, itself counted; 0 once it is granted."""
        with self._lock:
            if ticket.granted:
                return 0
            before = self._queue[: self._queue.index(ticket)]
            return 1 + sum(1 for other in before if other.wants.keys() & ticket.wants.keys())

    def wait(self, ticket: Ticket, timeout_seconds: float | None) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: ticket.granted, timeout_seconds)

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket.granted:
                ticket.granted = False
                for thing, count in ticket.wants.items():
                    self._free[thing] += count
            elif ticket in self._queue:
                self._queue.remove(ticket)
            self._grant()


class Ticket:
    """A place in the queue for slots; a context manager that gives them back."""

    def __init__(self, board: _Board, wants: Mapping[str, int]) -> None:
        self._board = board
        self.wants = wants
        self.granted = False

    @property
    def position(self) -> int:
        return self._board.position(self)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Waits for the slots; False if the timeout came first."""
        return self._board.wait(self, timeout_seconds)

    def queue(self, caller: Caller, what: str) -> Iterator[int]:
        """Waits for the slots; yields the position whenever it changed, and nothing if they are free.

        Args:
            caller: for whom the slots are.
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
        self._board.leave(self)


class Slots:
    """Slots of one thing: whoever wants some gets them as long as there are any, first come first served.

    >>> slots = Slots(2)
    >>> with slots.ticket(occupies=2) as ticket:
    ...     ticket.wait(), slots.ticket().position
    (True, 1)

    Args:
        capacity: how much there is, such as 1 for a GPU or the number of cores.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._board = _Board()
        self._board.provide("", capacity)

    def ticket(self, occupies: int = 1) -> Ticket:
        """Joins the queue; leave it by closing the ticket.

        Args:
            occupies: how much the job takes; one that wants more than there is takes all of it.
        """
        return self._board.ticket({"": min(occupies, self._capacity)})


class Devices:
    """The slots of each device of this machine, by name (``cpu``, ``cuda``, ``cuda:N``).

    A job occupies as many of the CPU's slots as it has threads, so that small trainings of several pipelines run side
    by side and large ones do not get in each other's way; a GPU serves one job at a time, and a job on several GPUs
    waits until all of them are free.

    >>> devices = Devices()
    >>> with devices.ticket("cuda:1", 1, 2) as ticket:
    ...     ticket.granted, devices.ticket("cuda", 1).granted, devices.ticket("cuda:2", 1).granted
    (True, True, False)
    """

    def __init__(self) -> None:
        self._board = _Board()

    def ticket(self, device: str, threads: int, processes: int = 1) -> Ticket:
        """Joins the queue of a device.

        Args:
            device: of the job; with several processes on GPUs, the first of theirs.
            threads: of each process.
            processes: that share the job; on GPUs each has one of its own.
        """
        if device == "cpu":
            cores = os.cpu_count() or 1
            self._board.provide("cpu", cores)
            return self._board.ticket({"cpu": min(threads * processes, cores)})
        first = int(device.partition(":")[2] or 0)
        names = [f"cuda:{number}" for number in range(first, first + processes)]
        for name in names:
            self._board.provide(name, 1)
        return self._board.ticket(dict.fromkeys(names, 1))
