"""Reading what is not in memory: it is noticed, asked for in few requests, and read as it is."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.arrow import Int64Array
from modyn.storage import cold
from modyn.storage.cold import ReadAhead, ask
from modyn.storage.gather import Picks, gather_column
from modyn.storage.parts import Strided, map_file
from modyn.storage.values import Values, values_of

WIDTH = 160
ROWS = 50_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """8 MB on a real disk."""
    found = tmp_path / "records"
    rng = np.random.default_rng(0)
    with found.open("wb") as file:
        file.write(rng.bytes(WIDTH * ROWS))
    return found


def evict(path: Path) -> None:
    """Drops a file's pages from memory; skips the test where the file system does not let it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    memory = mapped(path)
    if cold._in_memory(
        (np.array([memory.address + memory.size // 2]), 1)
    ):  # reading it, even without waiting, would bring it back
        pytest.skip("pages cannot be dropped here")


def mapped(path: Path) -> pa.Buffer:
    return map_file(path, path.stat().st_size).buffer


def column(path: Path) -> Values:
    memory = map_file(path, WIDTH * ROWS).memory
    assert memory is not None
    return values_of(Strided(pa.binary(WIDTH), np.frombuffer(memory, np.uint8).reshape(-1, WIDTH)), pa.binary(WIDTH))


def ends(picks: Picks) -> Int64Array:
    return np.arange(1, len(picks) + 1) * WIDTH


def test_missing_pages_are_noticed_and_asked_for(path: Path) -> None:
    rng = np.random.default_rng(1)
    picks = Picks(rng.integers(0, ROWS, 5_000))
    expected = gather_column([column(path)], picks, pa.binary(WIDTH))
    assert not ReadAhead([([[column(path)]], picks)], ends(picks)).is_cold
    evict(path)
    values = column(path)
    assert ReadAhead([([[values]], picks)], ends(picks)).is_cold
    assert gather_column([values], picks, pa.binary(WIDTH)).equals(expected)
    assert not ReadAhead([([[values]], picks)], ends(picks)).is_cold


def test_texts_and_several_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    texts = pa.array([rng.bytes(int(size)).hex() for size in rng.integers(0, 2_000, 4_000)])
    _, offsets, data = texts.buffers()
    path = tmp_path / "texts"
    path.write_bytes(offsets.slice(0, 4 * 4_001).to_pybytes() + data.to_pybytes())
    evict(path)
    file = mapped(path)  # by hand, because Arrow's reader would touch it
    array = pa.Array.from_buffers(pa.string(), 4_000, [None, file.slice(0, 4 * 4_001), file.slice(4 * 4_001)])
    values = values_of(array, array.type)
    picks = Picks(rng.integers(0, 4_000, 1_000), rng.integers(0, 2, 1_000))
    evict(path)  # looking at the array may have made the kernel read all of so small a file ahead
    ahead = ReadAhead([([[values, values]], picks)], np.arange(1, 1_001) * 2_000)
    assert ahead.is_cold
    expected = texts.take(pa.array(picks.rows))
    assert gather_column([values, values], picks, array.type).equals(expected)


def test_neighbours_are_one_request(path: Path) -> None:
    values = column(path)
    dense = Picks(np.random.default_rng(3).permutation(ROWS)[: ROWS // 5])
    assert ask([[values]], dense) == 1
    far_apart = Picks(np.array([0, ROWS // 2, ROWS // 2 + 3, ROWS - 1]))
    assert ask([[values]], far_apart) == 3


def test_samples_are_asked_for_a_window_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "WINDOW_BYTES", 1000 * WIDTH)
    asked: list[int] = []
    monkeypatch.setattr(cold, "ask", lambda _, picks: asked.append(len(picks)))
    monkeypatch.setattr(cold, "_is_cold", lambda *_: True)
    picks = Picks(np.arange(3_500))
    ahead = ReadAhead([([[column(path)]], picks)], ends(picks))
    assert sum(asked) == 2_000
    ahead.before(900)
    assert sum(asked) == 2_000
    ahead.before(1_500)
    assert sum(asked) == 3_000
    ahead.before(3_500)
    assert sum(asked) == 3_500


def test_memory_that_is_no_file_is_not_cold() -> None:
    values = values_of(pa.array(np.arange(mmap.PAGESIZE)), pa.int64())
    assert not ReadAhead([([[values]], Picks(np.arange(10)))], ends(Picks(np.arange(10)))).is_cold
