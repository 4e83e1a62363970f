from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from modyn.client.signals import Interrupted, StopOnSignal


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)  # handlers run between bytecodes of the main thread


def test_first_signal_stops_and_second_raises() -> None:
    previous = signal.getsignal(signal.SIGINT)
    stopped = threading.Event()
    stopper = StopOnSignal(stopped.set)
    try:
        with stopper:
            interrupt()
            assert stopped.wait(5)
            assert stopper.received is not None
            assert stopper.received.exit_status == 130
            with pytest.raises(Interrupted, match="2"):
                interrupt()
    finally:
        signal.signal(signal.SIGINT, previous)


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopOnSignal(lambda: None) as stopper:
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert stopper.received is None


def test_sigterm_has_its_own_exit_status() -> None:
    assert Interrupted(signal.SIGTERM).exit_status == 143
