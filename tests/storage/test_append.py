"""`Append`: exactly once, all or nothing."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.arrow import encode_batch
from modyn.core.errors import CancelledError, ConflictError, InvalidInputError, NotFoundError, UnavailableError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.formats import FileSamples
from modyn.core.rpc import as_arrow_messages
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import Role
from modyn.storage import staging
from modyn.storage.reader import (
    BATCH_ID_METADATA,
    DATASET_METADATA,
    NUM_ROWS_METADATA,
    Column,
    append,
    read_columns,
    read_samples,
)
from modyn.storage.staging import Staging
from tests.storage.support import NAME, StorageServer, columns_of, interval


def test_batches_get_dense_keys_in_their_order(storage: StorageServer) -> None:
    storage.register()
    first = storage.append("one", {"x": [1.0, 2.0], "label": [1, None], "timestamp": [20, 10]})
    second = storage.append("two", {"x": [3.0], "label": [0], "timestamp": [5]})
    assert (first, second) == ((KeyRange(0, 2), False), (KeyRange(2, 3), False))
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP, Column.LABEL])
    assert columns_of(table, "timestamp", "label") == [[20, 10, 5], [1, None, 0]]


def test_a_repeated_batch_answers_the_first_keys(storage: StorageServer) -> None:
    storage.register()
    storage.append("one", {"x": [1.0]})
    storage.append("two", {"x": [2.0]})
    for _ in range(2):
        assert storage.append("one", {"x": [1.0]}) == (KeyRange(0, 1), True)
        assert storage.describe().end_key == 2
        storage.restart()


def test_samples_without_time_get_their_arrival(storage: StorageServer) -> None:
    storage.register()
    before = int(time.time())
    storage.append("one", {"x": [1.0, 2.0]})
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP, Column.ARRIVAL, Column.LABEL])
    times, arrivals, labels = columns_of(table, "timestamp", "arrival", "label")
    assert times == arrivals
    assert before <= times[0] <= time.time()
    assert labels == [None, None]


def test_many_messages_are_one_batch(storage: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MAX_SEGMENT_SAMPLES", 10_000)
    storage.register()
    values = np.random.default_rng(0).random(50_000)
    parts = [pa.record_batch({"x": part, "s": [str(v) for v in part]}) for part in np.array_split(values, 7)]
    assert append(storage.stub, NAME, "one", parts) == (KeyRange(0, 50_000), False)
    assert storage.describe().num_segments == 5
    keys = np.random.default_rng(1).permutation(50_000)[:1000]
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=1000))
    assert batch.columns["x"].to_pylist() == values[keys].tolist()
    assert batch.columns["s"].to_pylist() == [str(v) for v in values[keys]]


def test_one_batch_id_from_many_callers_is_written_once(storage: StorageServer) -> None:
    storage.register()
    answers: list[tuple[KeyRange, bool]] = []

    def call() -> None:
        answers.append(storage.append("same", {"x": np.arange(1000.0)}))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {keys for keys, _ in answers} == {KeyRange(0, 1000)}
    assert sorted(repeated for _, repeated in answers) == [False] + [True] * 7
    assert storage.describe().end_key == 1000
    assert len(list((storage.state.path / "datasets").glob("*/segments/*"))) == 1


def test_many_batches_from_many_callers_all_arrive_once(storage: StorageServer) -> None:
    storage.register()
    callers, each = 4, 10

    def call(caller: int) -> None:
        for index in range(each):
            storage.append(f"{caller}-{index}", {"x": [caller * each + index] * 3})

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = callers * each * 3
    assert storage.describe().end_key == count
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(count)), batch_size=count))
    values = np.array(batch.columns["x"].to_pylist())
    assert sorted(values.tolist()) == sorted(list(range(callers * each)) * 3)
    assert (values.reshape(-1, 3) == values[::3, None]).all(), "a batch's samples have consecutive keys"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": ["text"]}, "column 'x' is string; expected double"),
        ({"y": [1.0]}, "column 'x' is missing; expected x: double"),
        ({"x": [1.0], "y": [1.0]}, "column 'y' .* is not in this dataset"),
        ({"x": [1.0], "label": ["cat"]}, "label column 'label' is string; expected numbers"),
        ({"x": [1.0], "timestamp": ["now"]}, "timestamp column 'timestamp' is string"),
        ({"timestamp": [1]}, "there is no payload column"),
    ],
)
def test_wrong_batches_are_refused_whole(storage: StorageServer, columns: dict[str, Any], message: str) -> None:
    storage.register()
    storage.append("one", {"x": [1.0], "label": [1]})
    good = pa.record_batch({"x": [2.0]})
    with pytest.raises(InvalidInputError, match=message) as caught:
        append(storage.stub, NAME, "two", [good, pa.record_batch(columns)])
    assert "'two'" in caught.value.message
    assert storage.describe().end_key == 1
    assert storage.append("two", {"x": [2.0]}) == (KeyRange(1, 2), False), "its batch id is still free"


def test_calls_without_sense_are_refused(storage: StorageServer) -> None:
    storage.register()
    batch = pa.record_batch({"x": [1.0]})
    with pytest.raises(InvalidInputError, match="no record batch"):
        append(storage.stub, NAME, "one", [])
    for batch_id in ("", "x" * 201, "a\0b"):
        with pytest.raises(InvalidInputError, match="batch id"):
            append(storage.stub, NAME, batch_id, [batch])
    with pytest.raises(NotFoundError, match="no dataset is named 'other'"):
        append(storage.stub, "other", "one", [batch])
    with pytest.raises(InvalidInputError, match=r"no schema metadata 'modyn.dataset'"):
        storage.stub.Append(as_arrow_messages([encode_batch(batch)]))
    with pytest.raises(InvalidInputError, match="no Arrow IPC record batch"):
        storage.stub.Append(as_arrow_messages([b"garbage"]))
    assert storage.describe().end_key == 0


def test_an_empty_batch_is_remembered(storage: StorageServer) -> None:
    storage.register()
    storage.append("one", {"x": [1.0]})
    empty = {"x": pa.array([], pa.float64())}
    assert storage.append("none", empty) == (KeyRange(1, 1), False)
    assert storage.append("none", empty) == (KeyRange(1, 1), True)


def test_a_source_that_fails_half_way_appends_nothing(storage: StorageServer) -> None:
    storage.register()

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"x": [1.0]})
        raise OSError("the sensor is gone")

    with pytest.raises(OSError, match="the sensor is gone"):
        append(storage.stub, NAME, "one", batches())
    assert storage.describe().end_key == 0


def test_a_dataset_with_files_takes_batches_too(storage: StorageServer, folder: Path) -> None:
    (folder / "a.csv").write_text("x,y\n1.5,0\n")
    storage.register({"format": "csv", "path": str(folder), "label": "y", "settle_seconds": 0})
    storage.ingest()
    assert storage.append("one", {"x": [2.5], "label": [1]}) == (KeyRange(1, 2), False)
    storage.restart()
    assert storage.ingest().samples == 0
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array([1, 0]), batch_size=2))
    assert (batch.columns["x"].to_pylist(), batch.labels.to_pylist()) == ([2.5, 1.5], [1, 0])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_times_become_seconds(storage: StorageServer, unit: str) -> None:
    storage.register()
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = pa.array([-1 * per_second, 0, 5 * per_second + per_second // 2], pa.timestamp(unit, tz="UTC"))
    storage.append("one", {"x": [1, 2, 3], "timestamp": times})
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP])
    assert table["timestamp"].to_pylist() == [-1, 0, 5]


def test_leftovers_of_a_crash_are_removed_at_start(state: StateDirectory) -> None:
    storage = StorageServer(state)
    storage.register()
    storage.append("one", {"x": [1.0]})
    storage.stop()
    [dataset] = (path for path in (state.path / "datasets").iterdir() if path.is_dir())
    for name in ("segments/0123", "scans/4567", ".tmp-89"):
        (dataset / name).mkdir()
        (dataset / name / "payload.arrow").write_bytes(b"half")
    storage.start()
    assert storage.append("two", {"x": [2.0]}) == (KeyRange(1, 2), False), "removed when somebody writes again"
    assert {p.name for p in dataset.iterdir()} == {"segments", "scans", "labels", "deletions"}
    assert len(list((dataset / "segments").iterdir())) == 2
    assert not list((dataset / "scans").iterdir())
    storage.stop()


def test_first_writers_of_different_columns_do_not_mix(storage: StorageServer) -> None:
    """Both start before either has committed; one of them fixes the schema."""
    storage.register()
    both_started = threading.Barrier(2)
    outcomes: list[object] = []

    def call(name: str) -> None:
        def batches() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch({name: [1.0]})
            both_started.wait(10)
            yield pa.record_batch({name: [2.0]})

        try:
            outcomes.append(append(storage.stub, NAME, name, batches()))
        except (ConflictError, InvalidInputError) as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=call, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (KeyRange(0, 2), False) in outcomes
    [refused] = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert "fixed the dataset's columns" in refused or "expected" in refused
    assert len(list((storage.state.path / "datasets").glob("*/segments/*"))) == 1


def test_a_full_disk_leaves_nothing_and_is_said(storage: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MAX_SEGMENT_SAMPLES", 100_000)
    storage.register()
    storage.append("one", {"x": np.arange(10.0)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = [10_000, 400_000]
    data = np.concatenate([np.zeros(size) for size in sizes])
    try:
        # A limit on the size of files stands for the end of the disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        with pytest.raises(UnavailableError, match=r"nothing was committed\. Free or add disk space"):
            storage.append("two", {"x": data})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list((storage.state.path / "datasets").glob("*/segments/*"))) == 1
    assert storage.append("two", {"x": data}) == (KeyRange(10, 10 + len(data)), False)


def test_times_beyond_64_bits_are_the_callers_fault(storage: StorageServer) -> None:
    storage.register()
    with pytest.raises(InvalidInputError, match="timestamp"):
        storage.append("a", {"x": [1], "timestamp": pa.array([2**63], pa.uint64())})


def test_messages_cut_short_are_the_callers_fault(storage: StorageServer) -> None:
    storage.register()
    metadata = {DATASET_METADATA: NAME.encode(), BATCH_ID_METADATA: b"cut"}
    message = encode_batch(pa.record_batch({"x": list(range(1000))}).replace_schema_metadata(metadata))
    for size in (1, 100, 4000, len(message) - 200):
        with pytest.raises(InvalidInputError):
            storage.stub.Append(as_arrow_messages(iter([message[:size]])))
    assert storage.describe().num_samples == 0


@pytest.mark.parametrize("said", [None, b"2", b"many", b"6"])
def test_a_call_that_ends_before_its_last_message_writes_nothing(storage: StorageServer, said: bytes | None) -> None:
    """A caller that dies may look like one that has nothing more to send."""
    storage.register()
    metadata = {DATASET_METADATA: NAME.encode(), BATCH_ID_METADATA: b"cut"}
    last = metadata if said is None else {**metadata, NUM_ROWS_METADATA: said}
    batch = pa.record_batch({"x": [1.0, 2.0]})
    for call in (storage.stub.Append, storage.stub.SetLabels):
        sent = batch if call == storage.stub.Append else pa.record_batch({"key": [0, 1], "label": [0, 1]})
        messages = [encode_batch(sent.replace_schema_metadata(each)) for each in (metadata, last)]
        with pytest.raises(InvalidInputError, match=r"of batch 'cut' ended after 4 rows.*modyn\.num_rows"):
            call(as_arrow_messages(iter(messages)))
    assert storage.describe().end_key == 0


def test_nothing_is_committed_once_the_service_stops(storage: StorageServer) -> None:
    """The next process may have removed what was not committed when it started."""
    storage.register()
    writer = storage.service._datasets.writer(NAME)
    dataset = writer.dataset
    writer.begin()
    staging = Staging(dataset.folder, dataset.snapshot.schema)
    staging.add(FileSamples(pa.record_batch({"x": [1]}), None, None), None, Role.ANY)
    dataset.close()
    with pytest.raises(CancelledError, match="stops"):
        writer.append("late", staging)
    assert list(dataset.segments_folder.iterdir()) == []


def test_an_id_that_stands_for_another_batch_is_refused(storage: StorageServer) -> None:
    storage.register()
    storage.append("day", {"x": [1.0, 2.0, 3.0], "timestamp": [1, 2, 3]})
    with pytest.raises(InvalidInputError, match=r"batch id 'day' stands for another batch, of 3 rows.*this one has 2"):
        storage.append("day", {"x": [4.0, 5.0], "timestamp": [4, 5]})
    assert storage.append("day", {"x": [1.0, 2.0, 3.0], "timestamp": [1, 2, 3]}) == (KeyRange(0, 3), True)
    assert storage.describe().end_key == 3
