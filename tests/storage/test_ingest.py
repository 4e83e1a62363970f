"""Ingest of files: order, identity, quarantine, completeness."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modyn.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import IngestRequest, InspectSamplesRequest, ListDatasetsRequest
from modyn.storage import scan, service, staging
from modyn.storage.reader import Column, Order, read_columns, read_samples
from tests.storage.samples import CASES, write_stream
from tests.storage.support import LONG_AGO, NAME, StorageServer, columns_of, interval, settle

SOURCE = {"format": "parquet", "timestamp": "t", "label": "y"}


def write(path: Path, times: list[int], mtime: int = LONG_AGO, **columns: Any) -> Path:
    values = columns or {"x": [float(t) for t in times], "y": [t % 3 for t in times]}
    pq.write_table(pa.table({"t": pa.array(times, pa.int64()), **values}), path)
    return settle(path, mtime)


def payload(storage: StorageServer, keys: list[int]) -> list[float]:
    batches = read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=len(keys))
    values: list[float] = next(batches).columns["x"].to_pylist()
    return values


# ------------------------------------------------------------------------------------------------- order


def test_keys_of_a_scan_follow_time_then_path_then_position(storage: StorageServer, folder: Path) -> None:
    write(folder / "b.parquet", [5, 1, 5], x=[1.0, 2.0, 3.0], y=[0, 0, 0])
    write(folder / "a.parquet", [5, 9, 1], x=[4.0, 5.0, 6.0], y=[0, 0, 0])
    storage.register({**SOURCE, "path": str(folder)})
    assert storage.ingest().end_key == 6
    assert payload(storage, [0, 1, 2, 3, 4, 5]) == [6.0, 2.0, 4.0, 1.0, 3.0, 5.0]


def test_later_scans_get_later_keys_whatever_their_times(storage: StorageServer, folder: Path) -> None:
    write(folder / "late.parquet", [100])
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    write(folder / "early.parquet", [1])
    storage.ingest()
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP], order=Order.EVENT_TIME)
    assert columns_of(table, "key", "timestamp") == [[1, 0], [1, 100]]


def _content(state: StateDirectory, folder: Path, **options: Any) -> tuple[str, list[int]]:
    storage = StorageServer(state)
    try:
        storage.register({"format": "parquet", "path": str(folder), **CASES["parquet"].source(), **options})
        storage.ingest()
        request = InspectSamplesRequest(dataset=NAME)
        info = storage.stub.InspectSamples(request)
        batches = read_samples(storage.stub, NAME, KeySet(ranges=(KeyRange(0, 400),)), batch_size=400)
        return info.content_digest, next(batches).columns["id"].to_pylist()
    finally:
        storage.stop()


def test_content_does_not_depend_on_threads_or_clocks_or_memory(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stream(CASES["parquet"], folder, count=400, files=40)
    expected = _content(StateDirectory(tmp_path / "one"), folder)
    monkeypatch.setattr(scan, "READ_THREADS", 1)
    monkeypatch.setattr(scan, "CHUNK_FILES", 1)
    assert _content(StateDirectory(tmp_path / "two"), folder) == expected
    # Tiny blocks, all but the first ones in temporary files, and large files read apart
    monkeypatch.setattr(scan, "CHUNK_BYTES", 100)
    monkeypatch.setattr(staging, "BLOCK_BYTES", 300)
    monkeypatch.setattr(staging, "MEMORY_BYTES", 1_000)
    for path in folder.rglob("*.parquet"):
        os.utime(path)
    assert _content(StateDirectory(tmp_path / "three"), folder, settle_seconds=0) == expected
    assert not list((tmp_path / "three").rglob(".tmp-*"))


def test_large_scans_are_cut_into_segments(
    storage: StorageServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "MAX_SEGMENT_SAMPLES", 7)
    case = CASES["parquet"]
    write_stream(case, folder, count=100)
    storage.register({"format": "parquet", "path": str(folder), **case.source()})
    storage.ingest()
    assert storage.describe().num_segments == 15
    keys = np.random.default_rng(3).permutation(100)
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=100))
    assert sorted(case.numbers(batch.columns)) == list(range(100))
    assert np.array_equal(np.argsort(batch.timestamps[np.argsort(keys)], kind="stable"), np.arange(100))


# ---------------------------------------------------------------------------------------------- identity


def test_a_changed_file_supersedes_its_old_samples(storage: StorageServer, folder: Path) -> None:
    write(folder / "a.parquet", [10, 30], x=[1.0, 2.0], y=[0, None])
    write(folder / "b.parquet", [20, 40], x=[3.0, 4.0], y=[0, 0])
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    before = storage.describe()
    write(folder / "a.parquet", [10, 30, 50], mtime=LONG_AGO + 1, x=[5.0, 6.0, 7.0], y=[0, 0, 0])
    assert storage.ingest().end_key == 7

    for _ in range(2):
        described = storage.describe()
        assert (described.num_samples, described.num_superseded, described.num_unlabelled) == (5, 2, 0)
        assert (described.num_files, described.end_key) == (2, 7)
        live = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP])
        assert live["key"].to_pylist() == [1, 3, 4, 5, 6]
        ranges = read_columns(storage.stub, NAME, KeySet(ranges=(KeyRange(0, 2), KeyRange(2, 5))))
        assert ranges["key"].to_pylist() == [1, 3, 4]
        assert payload(storage, [0, 1, 2, 3]) == [1.0, 3.0, 2.0, 4.0], "old keys stay readable"
        # A reader of the earlier snapshot still sees what was there
        old = read_columns(storage.stub, NAME, interval(), end_key=before.end_key)
        assert old["key"].to_pylist() == [0, 1, 2, 3]
        storage.restart()


def test_deleted_files_keep_their_samples(storage: StorageServer, folder: Path) -> None:
    path = write(folder / "a.parquet", [1, 2])
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    path.unlink()
    assert storage.ingest().files_done == 0
    assert storage.describe().num_samples == 2


def test_a_file_that_became_empty_supersedes_too(storage: StorageServer, folder: Path) -> None:
    path = write(folder / "a.parquet", [1, 2])
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    path.write_bytes(b"")
    settle(path)
    storage.ingest()
    assert (storage.describe().num_samples, storage.describe().end_key) == (0, 2)


# --------------------------------------------------------------------------------------------- quarantine


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"x": ["a"], "y": [1]}, "column 'x' is string; expected double"),
        ({"z": [1.0], "y": [1]}, "column 'x' is missing; expected x: double, found z: double"),
        ({"x": [1.0]}, "label column 'y' is missing; the file has t, x"),
        ({"x": [1.0], "y": ["cat"]}, "label column 'y' is string; expected numbers"),
        ({"x": [1.0], "w": [1], "y": [1]}, r"column 'w' \(int64\) is not in this dataset; expected x: double"),
        ({"x": [1.0], "y": [1.5]}, "labels are double; expected int64"),
    ],
)
def test_other_columns_are_quarantined(
    storage: StorageServer, folder: Path, columns: dict[str, Any], reason: str
) -> None:
    write(folder / "a.parquet", [1])
    write(folder / "b.parquet", [1], **columns)
    write(folder / "c.parquet", [1])
    storage.register({**SOURCE, "path": str(folder)})
    assert storage.ingest().quarantined == 1
    [entry] = storage.describe().quarantined
    assert entry.path == "b.parquet"
    assert pytest.approx(time.time(), abs=60) == entry.at
    assert re.search(reason, entry.reason), entry.reason
    assert storage.describe().num_samples == 2
    (folder / "b.parquet").unlink()
    storage.ingest()
    assert not storage.describe().quarantined


def test_the_schema_of_a_rejected_first_file_is_forgotten(storage: StorageServer, folder: Path) -> None:
    write(folder / "a.parquet", [1, 2], x=["text", "text"], y=["no", "label"])
    write(folder / "b.parquet", [3])
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    assert [(column.name, column.type) for column in storage.describe().payload] == [("x", "double")]


def test_missing_timestamps_are_quarantined(storage: StorageServer, folder: Path) -> None:
    pq.write_table(pa.table({"t": [1, None], "x": [1.0, 2.0], "y": [1, 1]}), folder / "a.parquet")
    settle(folder / "a.parquet")
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    assert "timestamp column 't' has no value in row 1" in storage.describe().quarantined[0].reason


def test_labels_may_be_missing_at_first(storage: StorageServer, folder: Path) -> None:
    write(folder / "a.parquet", [1, 2], x=[1.0, 2.0], y=pa.nulls(2))
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    write(folder / "b.parquet", [3], x=[3.0], y=[0.5])
    storage.ingest()
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.LABEL])
    assert table["label"].to_pylist() == [None, None, 0.5]
    assert storage.describe().num_unlabelled == 2


# ------------------------------------------------------------------------------------------- completeness


def test_ingest_waits_for_a_file_that_is_being_written(storage: StorageServer, folder: Path) -> None:
    path = folder / "growing.bin"
    path.write_bytes(b"")
    writes = 8

    def grow() -> None:
        with path.open("ab") as file:
            for _ in range(writes):
                file.write(b"0123456789")
                file.flush()
                time.sleep(0.1)

    writer = threading.Thread(target=grow)
    writer.start()
    storage.register({"format": "binary", "record_size": 10, "path": str(folder), "settle_seconds": 0.5})
    assert storage.ingest().samples == writes
    writer.join()
    assert storage.describe().num_superseded == 0


def test_renamed_files_are_taken_at_once(storage: StorageServer, folder: Path) -> None:
    for name in (".hidden.parquet", "_temporary.parquet", "a.parquet.tmp", "b.parquet.part"):
        write(folder / name, [1], mtime=int(time.time()))
    (folder / "_delta").mkdir()
    write(folder / "_delta" / "x.parquet", [1])
    storage.register({**SOURCE, "path": str(folder), "pattern": "**/*.parquet*", "settle_seconds": 30})
    assert storage.ingest().files_done == 0
    time.sleep(0.02)  # the clock of file systems ticks every few milliseconds
    (folder / "a.parquet.tmp").rename(folder / "a.parquet")
    started = time.monotonic()
    assert storage.ingest().files_done == 1
    assert time.monotonic() - started < 5


def test_progress_is_streamed(storage: StorageServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PROGRESS_SECONDS", 0)
    for index in range(5):
        write(folder / f"{index}.parquet", [index])
    storage.register({**SOURCE, "path": str(folder)})
    seen = list(storage.stub.Ingest(IngestRequest(dataset=NAME)))
    assert [p.files_done for p in seen[:6]] == [1, 2, 3, 4, 5, 5]
    assert {p.files_total for p in seen} == {5}
    assert (seen[-1].samples, seen[-1].end_key) == (5, 5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]


# ----------------------------------------------------------------------------------------- registration


def test_registering_again_answers_the_same_dataset(storage: StorageServer, folder: Path) -> None:
    write(folder / "a.parquet", [1])
    storage.register({**SOURCE, "path": str(folder)})
    storage.ingest()
    assert storage.register({**SOURCE, "path": str(folder)}).end_key == 1
    assert storage.register({**SOURCE, "path": str(folder), "poll_seconds": 5}).end_key == 1
    assert storage.register().end_key == 1
    storage.restart()
    assert storage.register({**SOURCE, "path": str(folder)}).end_key == 1
    assert [d.name for d in storage.stub.ListDatasets(ListDatasetsRequest()).datasets] == [NAME]
    with pytest.raises(AlreadyExistsError, match=r"label: y.*label: x") as caught:
        storage.register({**SOURCE, "label": "x", "path": str(folder)})
    assert NAME in caught.value.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"format": "parquet", "path": "/nowhere/at/all"}, "data.source.path '/nowhere/at/all' does not exist"),
        ({"format": "parquet"}, "data.source: path: this key is missing"),
        ({"format": "parket", "path": "/"}, "did you mean 'parquet'"),
        ({"format": "binary", "path": "/", "record_size": 4, "label_size": 4}, "leaves no payload"),
        ({"format": "csv", "path": "/", "types": {"a": "text"}}, "'text' is no type"),
        ({"format": "parquet", "path": "/", "columns": ["a"], "drop": ["a"]}, "both `columns` and `drop`"),
        ({"path": "/"}, "'format' is missing"),
    ],
)
def test_wrong_sources_are_refused(storage: StorageServer, source: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        storage.register(source)


def test_unknown_datasets_are_named_with_the_nearest(storage: StorageServer) -> None:
    storage.register(name="weather")
    for call in (lambda: storage.describe("wether"), lambda: storage.ingest("wether")):
        with pytest.raises(NotFoundError, match=r"no dataset is named 'wether'.*'weather'"):
            call()


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
def test_dataset_names_are_checked(storage: StorageServer, name: str) -> None:
    with pytest.raises(InvalidInputError, match="dataset name"):
        storage.register(name=name)


def test_elec2_is_ingested_as_it_is(storage: StorageServer, folder: Path, shared_data: Path) -> None:
    table = pq.read_table(shared_data / "elec2.parquet")
    pq.write_table(table, folder / "elec2.parquet")
    names = table.schema.names
    storage.register({"format": "parquet", "path": str(folder), "label": names[-1], "settle_seconds": 0})
    assert storage.ingest().samples == table.num_rows
    keys = np.random.default_rng(0).permutation(table.num_rows)[:5_000]
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=5_000))
    expected = table.take(pa.array(keys))
    for name in names[:-1]:
        assert batch.columns[name].to_pylist() == expected[name].to_pylist()


def test_a_changed_file_that_is_bad_stays_aside_over_a_restart(storage: StorageServer, folder: Path) -> None:
    path = folder / "a.csv"
    path.write_text("x,y\n1,2\n")
    settle(path)
    storage.register({"format": "csv", "path": str(folder)})
    storage.ingest()
    path.write_text("x,z\n1,2\n")
    settle(path, LONG_AGO + 500)
    assert storage.ingest().quarantined == 1
    storage.restart()
    assert storage.ingest().quarantined == 0  # nothing new
    assert [bad.path for bad in storage.describe().quarantined] == ["a.csv"]
    path.write_text("x,y\n1,2\n")
    settle(path)  # the version that was ingested
    storage.restart()
    storage.ingest()
    assert not storage.describe().quarantined
