"""Where arrivals come from: live and replay show the same samples, whatever happened to them later."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.core.plugins.triggers import Arrivals
from modyn.core.state import StateDirectory
from modyn.supervisor.arrivals import ArrivalSource, LiveSource, ReplaySource
from modyn.supervisor.options import RunOptions
from tests.storage.support import NAME, StorageServer, settle


@pytest.fixture
def storage(state: StateDirectory) -> Iterator[StorageServer]:
    server = StorageServer(state)
    yield server
    server.stop()


def shown(source: ArrivalSource, count: int) -> list[int]:
    """Keys of the first ``count`` samples."""
    keys: list[int] = []
    for arrivals in source:
        keys += arrivals.keys.tolist()
        if len(keys) >= count:
            break
    source.stop()
    return keys


@pytest.fixture
def changed(storage: StorageServer, tmp_path: Path) -> StorageServer:
    """Keys 0 to 2, of which 0 and 1 were superseded by 3 and 4 when their file changed."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.csv").write_text("x,t\n1,10\n2,20\n")
    (folder / "b.csv").write_text("x,t\n3,30\n")
    for name in ("a.csv", "b.csv"):
        settle(folder / name)
    storage.register({"format": "csv", "path": str(folder), "timestamp": "t"})
    assert storage.ingest().end_key == 3
    (folder / "a.csv").write_text("x,t\n7,10\n8,20\n")
    os.utime(folder / "a.csv", (1_000_000_100, 1_000_000_100))
    assert storage.ingest().end_key == 5
    assert storage.describe().num_superseded == 2
    return storage


def test_live_shows_every_sample_that_arrived_even_if_it_was_superseded_before_it_was_read(
    changed: StorageServer,
) -> None:
    assert shown(LiveSource(changed.stub, NAME, 0), 5) == [0, 1, 2, 3, 4]
    assert shown(LiveSource(changed.stub, NAME, 1), 4) == [1, 2, 3, 4]


def test_a_replay_by_arrival_shows_what_live_showed(changed: StorageServer) -> None:
    assert shown(ReplaySource(changed.stub, NAME, RunOptions(order="arrival"), 5), 5) == [0, 1, 2, 3, 4]
    options = RunOptions(order="arrival", start_key=1)
    assert shown(ReplaySource(changed.stub, NAME, options, 4), 3) == [1, 2, 3]


def test_a_replay_by_event_time_shows_only_the_newest_version(changed: StorageServer) -> None:
    assert shown(ReplaySource(changed.stub, NAME, RunOptions(), 5), 3) == [3, 4, 2]
    assert shown(ReplaySource(changed.stub, NAME, RunOptions(), 3), 3) == [0, 1, 2]


def test_live_and_replay_by_arrival_say_when_each_sample_arrived(changed: StorageServer) -> None:
    """The clock of guards and schedules: the same in both; by event time it is that of the samples themselves."""
    live = pieces_of(LiveSource(changed.stub, NAME, 0), 5)
    replay = pieces_of(ReplaySource(changed.stub, NAME, RunOptions(order="arrival"), 5), 5)
    for pieces in (live, replay):
        assert all(piece.arrived is not None for piece in pieces)
    clock = np.concatenate([piece.clock for piece in live])
    assert clock.tolist() == np.concatenate([piece.clock for piece in replay]).tolist()
    assert clock.dtype == np.int64
    assert (np.diff(clock) >= 0).all()
    assert abs(time.time() - clock[-1]) < 600
    for piece in pieces_of(ReplaySource(changed.stub, NAME, RunOptions(), 5), 3):
        assert piece.arrived is None
        assert piece.clock is piece.timestamps


def pieces_of(source: ArrivalSource, count: int) -> list[Arrivals]:
    """The first pieces, up to ``count`` samples."""
    pieces: list[Arrivals] = []
    for arrivals in source:
        pieces.append(arrivals)
        if sum(map(len, pieces)) >= count:
            break
    source.stop()
    return pieces
