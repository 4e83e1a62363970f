"""A source's file that is truncated while its samples are being read does not take the process with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from modyn.core.errors import CorruptDataError
from modyn.core.keysets import KeySet
from modyn.storage.parts import Mapping, map_file
from modyn.storage.reader import read_samples
from tests.storage.support import NAME, StorageServer, settle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the signal does what it always does")

WIDTH = 4_096
ROWS = 20_000


def source(path: Path) -> dict[str, object]:
    return {"format": "binary", "record_size": WIDTH, "path": str(path), "settle_seconds": 0}


def faulted(mapping: Mapping) -> bool:
    return mapping.guard is not None and mapping.guard.faulted


def write(path: Path) -> None:
    path.write_bytes(np.arange(ROWS * WIDTH, dtype=np.uint32).astype(np.uint8).tobytes())
    settle(path)


def test_pages_that_are_gone_are_empty_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"\1" * 100_000)
    mapping = map_file(path, 100_000, path.stat().st_mtime_ns)
    view = np.frombuffer(mapping.buffer, dtype=np.uint8)
    assert not faulted(mapping)
    os.truncate(path, 5_000)
    assert view[4_999] == 1
    assert view[90_000] == 0
    assert faulted(mapping)
    with pytest.raises(CorruptDataError, match="was changed in place"):
        mapping.check()


def test_other_maps_still_raise_the_signal(tmp_path: Path) -> None:
    code = """
import mmap, os, sys
from modyn.storage.faults import Guard
files = [open(sys.argv[1] + name, "w+b") for name in "ab"]
maps = []
for file in files:
    file.write(bytes(10_000)); file.flush()
    maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
guard = Guard(maps[0])
for file in files:
    os.truncate(file.fileno(), 0)
print(maps[0][9_000], guard.faulted, flush=True)
maps[1][9_000]
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "f")], capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["0", "True"]
    assert result.returncode == -7


def test_a_later_map_at_the_same_place_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "records"
    for _ in range(5):
        path.write_bytes(b"\1" * 100_000)
        mapping = map_file(path, 100_000, path.stat().st_mtime_ns)
        assert not faulted(mapping)
        os.truncate(path, 0)
        assert mapping.buffer[50_000] == 0
        assert faulted(mapping)
        del mapping


@pytest.mark.parametrize("local", [False, True])
def test_a_file_that_is_truncated_while_it_is_read_is_an_error(
    storage: StorageServer, folder: Path, local: bool
) -> None:
    write(folder / "a.bin")
    write(folder / "b.bin")
    storage.register(source(folder))
    assert storage.ingest().samples == 2 * ROWS
    keys = np.random.default_rng(0).permutation(2 * ROWS)
    started = threading.Event()

    def truncate() -> None:
        started.wait()
        time.sleep(0.01)
        os.truncate(folder / "a.bin", WIDTH)

    thread = threading.Thread(target=truncate)
    thread.start()

    def read() -> None:
        for _ in range(100):
            for batch in read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=256, local=local):
                started.set()
                assert len(batch) <= 256

    with pytest.raises(CorruptDataError, match=r"a\.bin|files/0"):
        read()
    thread.join()
    assert storage.describe().num_samples == 2 * ROWS
    settle(folder / "a.bin")
    storage.ingest()
    described = storage.describe()
    assert (described.num_superseded, described.num_samples) == (ROWS, ROWS + 1)


def test_a_file_that_is_overwritten_costs_its_own_old_samples_only(storage: StorageServer, folder: Path) -> None:
    for name in "abc":
        np.save(folder / f"{name}.npy", np.full((3_000, 4), ord(name), dtype=np.float32))
        settle(folder / f"{name}.npy")
    storage.register({"format": "numpy", "path": str(folder), "settle_seconds": 0})
    storage.ingest()
    np.save(folder / "a.npy", np.full((3_000, 4), 7, dtype=np.float32))  # writes into the same file
    for _ in range(2):
        storage.ingest()
    described = storage.describe()
    assert (described.num_samples, described.num_superseded, described.end_key) == (9_000, 3_000, 12_000)

    def values(keys: list[int], *, local: bool | None) -> list[float]:
        batch = next(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=len(keys), local=local))
        return [row[0] for row in batch.columns["x"].to_pylist()]

    for local in (False, None):
        assert values([11_999, 5_000, 8_000, 9_000], local=local) == [7, ord("b"), ord("c"), 7]
        with pytest.raises(CorruptDataError, match=r"a\.npy was changed in place"):
            values([2_999], local=local)
    storage.delete(list(range(3_000)))
    storage.compact()
    described = storage.describe()
    assert (described.num_deleted, described.num_deleted_stored) == (3_000, 0)
    assert values([5_000, 8_000, 9_000], local=False) == [ord("b"), ord("c"), 7]
