"""Slots of devices: given in order, given back, and given up when the caller goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from modyn.core.devices import Caller, Slots
from modyn.core.errors import CancelledError
from modyn.core.jobs import Job


class CountingJob(Job):
    """Counts how often it was killed."""

    cancelled = 0

    def events(self, *, until_gone: bool = True) -> Iterator[bytes]:
        return iter(())

    def send(self, message: bytes) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled += 1


def patient() -> Caller:
    return Caller(lambda: True, lambda callback: True)


def test_slots_are_given_in_order_and_given_back() -> None:
    slots = Slots(1)
    first, second, third = slots.ticket(), slots.ticket(), slots.ticket()
    assert [ticket.position for ticket in (first, second, third)] == [0, 1, 2]
    with first:
        assert first.wait(0)
        assert not second.wait(0.01)
    with second:
        assert second.wait(0)
        assert third.position == 1
    with third:
        assert third.wait(0)


def test_leaving_the_queue_lets_others_pass() -> None:
    slots = Slots(1)
    first, second, third = slots.ticket(), slots.ticket(), slots.ticket()
    with second:
        pass  # gave up waiting
    with first:
        assert third.position == 1
    assert third.wait(1)


def test_never_more_than_capacity_at_once() -> None:
    slots, running, most = Slots(3), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with slots.ticket() as ticket:
            ticket.wait()
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.005)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


def test_a_free_slot_needs_no_queue() -> None:
    assert list(Slots(1).ticket().queue(patient(), "training")) == []


def test_whoever_queues_hears_when_the_queue_gets_shorter() -> None:
    slots = Slots(1)
    first, second, third = slots.ticket(), slots.ticket(), slots.ticket()
    positions = third.queue(patient(), "training")
    assert next(positions) == 2
    with first:
        pass
    assert next(positions) == 1
    with second:
        pass
    assert list(positions) == []


def test_a_caller_that_goes_away_leaves_the_queue() -> None:
    slots = Slots(1)
    with slots.ticket(), slots.ticket() as second:
        positions = second.queue(Caller(lambda: False, lambda callback: False), "training")
        assert next(positions) == 1
        with pytest.raises(CancelledError, match="cancelled while the training was queued"):
            next(positions)
    assert slots.ticket().position == 0


@pytest.mark.parametrize("gone_already", [False, True])
def test_a_job_is_killed_when_its_caller_goes_away(gone_already: bool) -> None:
    callbacks: list[Callable[[], None]] = []

    def on_gone(callback: Callable[[], None]) -> bool:
        callbacks.append(callback)
        return not gone_already

    job = CountingJob()
    Caller(lambda: True, on_gone).kill_when_gone(job)
    assert job.cancelled == gone_already
    callbacks[0]()
    assert job.cancelled
