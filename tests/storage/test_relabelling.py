"""Label files that appear or change after their sample was ingested, and files that leave a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.storage.reader import Column, Order, read_columns
from tests.storage.support import NAME, StorageServer, settle

SOURCE = {"format": "files", "file_extension": ".dat", "label_file_extension": ".label", "settle_seconds": 0.2}
LATER = 1_100_000_000


def labels(storage: StorageServer, count: int, as_of: LabelsAsOf | None = None) -> list[int | None]:
    keys = KeySet(ranges=(KeyRange(0, count),))
    table = read_columns(storage.stub, NAME, keys, columns=[Column.LABEL], order=Order.KEY, labels=as_of)
    found: list[int | None] = table.column("label").to_pylist()
    return found


@pytest.fixture
def ingested(storage: StorageServer, folder: Path) -> StorageServer:
    """Samples a (label 1), b and c (none)."""
    for name in "abc":
        settle(folder / f"{name}.dat") if (folder / f"{name}.dat").write_bytes(name.encode()) else None
    (folder / "a.label").write_text("1")
    settle(folder / "a.label")
    storage.register(SOURCE | {"path": str(folder)})
    assert storage.ingest().samples == 3
    assert labels(storage, 3) == [1, None, None]
    return storage


def write_label(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.label").write_text(text)
    os.utime(folder / f"{name}.label", (LATER, LATER))


def test_a_label_file_that_appears_later_is_a_late_label(ingested: StorageServer, folder: Path) -> None:
    write_label(folder, "b", "7")
    ingested.ingest()
    assert labels(ingested, 3) == [1, 7, None]
    assert labels(ingested, 3, LabelsAsOf(label_time=LATER - 1)) == [1, None, None]
    assert labels(ingested, 3, LabelsAsOf(label_time=LATER)) == [1, 7, None]
    assert ingested.describe().end_key == 3


def test_a_label_file_that_changes_is_a_correction(ingested: StorageServer, folder: Path) -> None:
    write_label(folder, "a", "2")
    ingested.ingest()
    assert labels(ingested, 3) == [2, None, None]
    assert labels(ingested, 3, LabelsAsOf(version=0)) == [1, None, None]


def test_a_label_file_that_is_emptied_withdraws_the_label(ingested: StorageServer, folder: Path) -> None:
    write_label(folder, "a", "")
    ingested.ingest()
    assert labels(ingested, 3) == [None, None, None]


def test_a_label_file_that_is_removed_withdraws_the_label(ingested: StorageServer, folder: Path) -> None:
    (folder / "a.label").unlink()
    ingested.ingest()
    assert labels(ingested, 3) == [None, None, None]
    assert labels(ingested, 3, LabelsAsOf(version=0)) == [1, None, None]


def test_a_label_file_older_than_its_sample_counts(ingested: StorageServer, folder: Path) -> None:
    (folder / "a.label").write_text("8")
    settle(folder / "a.label", 900_000_000)
    ingested.ingest()
    assert labels(ingested, 3) == [8, None, None]


def test_nothing_is_read_twice_also_after_a_restart(ingested: StorageServer, folder: Path) -> None:
    write_label(folder, "b", "7")
    ingested.ingest()
    ingested.ingest()
    ingested.restart()
    ingested.ingest()
    assert ingested.describe().label_version == 1
    write_label(folder, "c", "3")
    ingested.ingest()
    assert (ingested.describe().label_version, labels(ingested, 3)) == (2, [1, 7, 3])


def test_a_label_file_that_is_no_number_changes_nothing(ingested: StorageServer, folder: Path) -> None:
    write_label(folder, "a", "many")
    write_label(folder, "b", "5")
    ingested.ingest()
    assert labels(ingested, 3) == [1, 5, None]
    write_label(folder, "a", "4")
    ingested.ingest()
    assert labels(ingested, 3) == [4, 5, None]


def test_a_changed_sample_file_takes_its_label_file_along(ingested: StorageServer, folder: Path) -> None:
    (folder / "b.dat").write_bytes(b"changed")
    settle(folder / "b.dat", LATER)
    write_label(folder, "b", "9")
    ingested.ingest()
    described = ingested.describe()
    assert (described.end_key, described.num_superseded, described.label_version) == (4, 1, 0)
    assert labels(ingested, 4) == [1, None, 9]


def test_files_that_leave_a_delta_table_are_superseded(storage: StorageServer, folder: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    import pyarrow as pa

    table = str(folder)
    deltalake.write_deltalake(table, pa.table({"x": [1, 2, 3]}))
    storage.register({"format": "delta", "path": table, "settle_seconds": 0})
    storage.ingest()
    deltalake.DeltaTable(table).delete("x = 2")
    storage.ingest()
    described = storage.describe()
    assert (described.num_samples, described.num_superseded) == (2, 3)
    storage.restart()
    storage.ingest()
    assert storage.describe().num_superseded == 3
