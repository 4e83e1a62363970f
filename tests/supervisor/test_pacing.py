"""Waiting for arrivals and for the moments at which a trigger wants to look."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from modyn.core.plugins.triggers import Arrivals
from modyn.supervisor import pacing
from modyn.supervisor.arrivals import ArrivalSource
from modyn.supervisor.pacing import MAX_PIECES, Paced

PATIENCE = 30.0


class Fed(ArrivalSource):
    """A source that the test feeds; None ends it, an exception breaks it."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        self.num_read = 0
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[Arrivals]:
        while not self.stopped.is_set():
            try:
                piece = self.pieces.get(timeout=0.01)
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            self.num_read += 1
            yield Arrivals(np.array([piece]), np.array([piece * 10]))

    def stop(self) -> None:
        self.stopped.set()


def never() -> None:
    return None


def test_pieces_come_in_order_and_the_end_ends_it() -> None:
    source = Fed()
    for piece in (*range(20), None):
        source.pieces.put(piece)
    assert [int(arrivals.keys[0]) for arrivals in Paced(source, never) if arrivals is not None] == list(range(20))
    assert source.stopped.is_set()


def test_an_error_of_the_source_is_raised_after_what_came_before_it() -> None:
    source = Fed()
    for piece in (1, ZeroDivisionError("in the source")):
        source.pieces.put(piece)
    pieces = iter(Paced(source, never))
    first = next(pieces)
    assert first is not None
    assert first.keys.tolist() == [1]
    with pytest.raises(ZeroDivisionError, match="in the source"):
        next(pieces)


def test_it_says_when_it_is_time_to_look_though_nothing_comes() -> None:
    source = Fed()
    due = time.time() + 0.2
    paced = iter(Paced(source, lambda: due))
    assert next(paced) is None
    assert due <= time.time() < due + PATIENCE
    source.pieces.put(None)


def test_a_sample_that_is_there_comes_before_the_look() -> None:
    source = Fed()
    source.pieces.put(1)
    looked: list[float] = []

    def at_once() -> float:
        while source.num_read == 0:  # the piece is on its way
            time.sleep(0.001)
        time.sleep(0.05)
        looked.append(time.time())
        return 0.0

    paced = iter(Paced(source, at_once))
    assert next(paced) is not None
    assert next(paced) is None
    assert looked
    source.pieces.put(None)


def test_waking_it_answers_soon_even_if_no_look_is_due() -> None:
    source = Fed()
    paced = Paced(source, never)
    pieces = iter(paced)
    threading.Timer(0.05, paced.wake).start()
    started = time.monotonic()
    assert next(pieces) is None
    assert time.monotonic() - started < PATIENCE
    source.pieces.put(1)
    following = next(pieces)
    assert following is not None, "it woke up once"
    source.pieces.put(None)
    assert list(pieces) == []


def test_no_more_is_read_than_fits_while_a_training_runs() -> None:
    source = Fed()
    for piece in range(100):
        source.pieces.put(piece)
    pieces = iter(Paced(source, never))
    next(pieces)
    deadline = time.monotonic() + PATIENCE
    while source.num_read < MAX_PIECES + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert source.num_read <= MAX_PIECES + 2  # one is out, one waits for room
    source.pieces.put(None)
    assert len([piece for piece in pieces if piece is not None]) == 99


def test_leaving_early_stops_the_source_and_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_POLL_SECONDS", 0.05)
    source = Fed()
    for piece in range(100):
        source.pieces.put(piece)
    before = threading.active_count()
    for _ in Paced(source, never):
        break
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert source.stopped.is_set()
