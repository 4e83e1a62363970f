"""Compaction: fewer segments and label files, with the same samples."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.keysets import KeyRange, KeySet, ranges_to_proto
from modyn.core.rpc import arrow_stream, cancel
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import (
    InspectSamplesRequest,
    LabelsAsOf,
    ReadColumnsRequest,
    ReadSamplesRequest,
    WatchDatasetRequest,
)
from modyn.storage import compaction, segments
from modyn.storage.reader import read_columns, read_samples
from modyn.storage.segments import ARROW, MERGED, SegmentInfo
from tests.storage.support import NAME, StorageServer, eventually, interval

Column, Order = ReadColumnsRequest.Column, ReadColumnsRequest.Order
ALL_COLUMNS = [Column.TIMESTAMP, Column.LABEL, Column.ARRIVAL, Column.ROLE]


def fill(storage: StorageServer, batches: int, size: int = 10, first: int = 0) -> None:
    for number in range(first, first + batches):
        values = np.arange(number * size, (number + 1) * size)
        storage.append(f"b{number}", {"x": values, "label": values % 3, "timestamp": values[::-1] * 10})


def everything(storage: StorageServer) -> dict[str, list[object]]:
    """All that can be read of a dataset, but for the payload in key order."""
    end_key = storage.describe().end_key
    found: dict[str, list[object]] = read_columns(storage.stub, NAME, interval(), columns=ALL_COLUMNS).to_pydict()
    keys = KeySet.from_array(np.random.default_rng(0).permutation(end_key))
    for batch in read_samples(storage.stub, NAME, keys, batch_size=max(1, end_key)):
        found |= {"keys": batch.keys.tolist(), "x": batch.columns["x"].to_pylist(), "labels": batch.labels.to_pylist()}
    return found


def digests(storage: StorageServer) -> list[str]:
    """Content digests of several parts, as of several moments."""
    end_key = storage.describe().end_key
    requests = [
        InspectSamplesRequest(dataset=NAME),
        InspectSamplesRequest(dataset=NAME, interval=interval(50, 200)),
        InspectSamplesRequest(dataset=NAME, interval=interval(95, 96)),
        InspectSamplesRequest(dataset=NAME, end_key=end_key // 2),
        InspectSamplesRequest(dataset=NAME, ranges=ranges_to_proto((KeyRange(3, 7), KeyRange(12, end_key - 1)))),
    ]
    times = [LabelsAsOf(), LabelsAsOf(label_time=60), LabelsAsOf(arrival=0), LabelsAsOf(version=1)]
    answers = []
    for request in requests:
        for as_of in times:
            request.labels.CopyFrom(as_of)
            answers.append(storage.stub.InspectSamples(request).content_digest)
    return answers


def segment_folders(storage: StorageServer) -> set[str]:
    return {path.name for path in (storage.state.path / "datasets").glob("*/segments/*")}


def test_what_is_read_stays_as_it_is(storage: StorageServer) -> None:
    storage.register()
    fill(storage, 12)
    storage.set_labels("one", {"key": [5, 17, 100], "label": [7, 8, 9], "label_time": [50, 60, 70]})
    storage.set_labels("two", {"key": [6, 17], "label": [None, 9], "label_time": [50, 65]})
    storage.delete([0, *range(20, 30), 119])
    before, said = everything(storage), digests(storage)
    assert before["x"] == before["keys"]
    done = storage.compact()
    assert (done.segments_before, done.segments_after, done.samples_done) == (12, 1, 120)
    assert everything(storage) == before
    assert digests(storage) == said
    assert storage.describe().num_deleted_stored == 0
    assert storage.verify() == []
    storage.restart()
    assert (everything(storage), digests(storage)) == (before, said)
    assert storage.compact().samples_done == 0, "there is nothing left to do"
    fill(storage, 2, first=12)
    storage.delete([3])
    changed = digests(storage)
    assert changed[0] != said[0], "other content has another digest"
    storage.compact()
    assert digests(storage) == changed
    assert storage.verify() == []


@pytest.mark.parametrize("whole", [False, True])
def test_content_keeps_its_digest_when_its_segment_is_cut(
    storage: StorageServer, folder: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Bytes of a segment that lay in files become ours when samples are deleted; it may be too large for one."""
    payload = np.arange(100, dtype=np.int64)
    for number in range(2):
        records = np.zeros(50, dtype=[("label", "u1"), ("time", "<i8"), ("x", "<i8")])
        records["time"] = records["x"] = payload[number * 50 : number * 50 + 50]
        (folder / f"{number}.bin").write_bytes(records.tobytes())
    storage.register(
        {"format": "binary", "path": str(folder), "record_size": 17, "label_size": 1, "timestamp_size": 8}
        | {"settle_seconds": 0}
    )
    storage.ingest()
    assert storage.describe().num_in_place == 100
    storage.set_labels("late", {"key": [3, 60], "label": [7, 8], "label_time": [1000, 1000]})
    storage.delete(range(100) if whole else [95, 4])
    said = digests(storage)
    monkeypatch.setattr(compaction, "MAX_SEGMENT_SAMPLES", 30)
    storage.compact()
    described = storage.describe()
    assert (described.num_segments, described.num_in_place, described.num_deleted_stored) == (4, 0, 0)
    assert digests(storage) == said
    assert storage.verify() == []
    left = [] if whole else [key for key in range(100) if key not in (4, 95)]
    batches = list(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(100)), batch_size=200))
    found = [int.from_bytes(x, "little") for batch in batches for x in batch.columns["payload"].to_pylist()]
    assert found == left
    assert [time for batch in batches for time in batch.timestamps.tolist()] == left


@pytest.mark.parametrize("each", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_the_number_of_segments_stays_small(state: StateDirectory, monkeypatch: pytest.MonkeyPatch, each: int) -> None:
    monkeypatch.setattr(compaction, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # which takes nearly all of the time
    storage = StorageServer(state)
    storage.register()
    rewritten = 0
    original = compaction._written

    def counted(*args: object) -> SegmentInfo:
        nonlocal rewritten
        info = original(*args)  # type: ignore[arg-type]
        rewritten += info.num_samples
        return info

    monkeypatch.setattr(compaction, "_written", counted)
    threads = [threading.Thread(target=fill, args=(storage, each, 1, each * caller)) for caller in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    compactor = storage.service._datasets.compactor(NAME)
    eventually(lambda: not compactor.is_due())
    described = storage.describe()
    assert described.end_key == 4 * each
    assert described.num_segments <= compaction.SMALL_SEGMENTS + 12
    assert rewritten <= 4 * each * 11, "no sample is rewritten more often than the logarithm of their number"
    eventually(lambda: len(segment_folders(storage)) == storage.describe().num_segments)
    storage.stop()
    started = time.monotonic()
    storage.start()
    assert time.monotonic() - started < 2
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(4 * each)), batch_size=4 * each))
    assert sorted(batch.columns["x"].to_pylist()) == list(range(4 * each))
    storage.stop()


def _info(size: int, number: int) -> SegmentInfo:
    return SegmentInfo(str(number), ARROW, 0, size, 0, 0, 0, 0, 0, 1, size * 100, size * 16, "")


def test_a_sample_is_rewritten_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule alone, for many more commits than a test can make."""
    rng = np.random.default_rng(0)
    infos: list[SegmentInfo] = []
    total = rewritten = longest = 0
    for number in range(20_000):
        size = int(rng.integers(1, 5))
        total += size
        infos.append(_info(size, number))
        run = compaction._newest_run(infos)
        if len(run) >= compaction.SMALL_SEGMENTS:
            joined = sum(info.num_samples for info in run)
            rewritten += joined
            infos = [*infos[: len(infos) - len(run)], _info(joined, number)]
        longest = max(longest, len(infos))
    assert rewritten <= total * np.log2(total)
    assert longest <= compaction.SMALL_SEGMENTS + np.log2(total) + 1


def test_a_read_that_began_before_ends_as_it_began(storage: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.register()
    noise = np.random.default_rng(1).integers(0, 256, (40, 1_000_000), dtype=np.uint8)
    for number, block in enumerate(noise):
        rows = [block[start : start + 50_000].tobytes() for start in range(0, 1_000_000, 50_000)]
        storage.append(f"{number}", {"x": pa.array(rows, pa.binary()), "timestamp": np.arange(20)})
    compactor = storage.service._datasets.compactor(NAME)
    eventually(lambda: not compactor.is_due() and len(segment_folders(storage)) == storage.describe().num_segments)
    old = segment_folders(storage)
    keys = KeySet(ranges=(KeyRange(0, 800),))
    samples = storage.stub.ReadSamples(ReadSamplesRequest(dataset=NAME, keys=keys.to_proto()))
    reader = arrow_stream(samples)
    first = next(reader)
    abandoned = storage.stub.ReadSamples(ReadSamplesRequest(dataset=NAME, keys=keys.to_proto()))
    next(arrow_stream(abandoned))
    storage.delete([799])
    storage.compact()
    assert old < segment_folders(storage), "files of a snapshot are kept while somebody reads it"
    cancel(abandoned)
    found = [pa.ipc.open_stream(message).read_all() for message in [first, *reader]]
    table = pa.concat_tables(found)
    assert table["key"].to_pylist() == list(range(800)), "also what was deleted meanwhile"
    assert b"".join(table["x"].to_pylist()) == noise.tobytes()
    del reader, samples, abandoned
    storage.append("last", {"x": [b"1"], "timestamp": [1]})  # commits make the background look
    monkeypatch.setattr(compaction, "PAUSE_SECONDS", 0.01)
    eventually(lambda: old.isdisjoint(segment_folders(storage)))
    assert storage.verify() == []


def test_watchers_see_the_same_arrivals(storage: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.register()
    now = 1_000_000.0
    monkeypatch.setattr("modyn.storage.dataset.time", SimpleNamespace(time=lambda: now))
    for number in range(6):
        now += number % 2
        fill(storage, 1, first=number)
    before = arrivals(storage, 60)
    assert len(set(before)) == 4
    now -= 500_000  # the clock may be set back
    fill(storage, 1, first=6)
    assert arrivals(storage, 70)[:60] == before
    assert arrivals(storage, 70)[60:] == before[-1:] * 10
    storage.compact()
    assert storage.describe().num_segments == 1
    assert arrivals(storage, 70)[:60] == before
    storage.restart()
    assert arrivals(storage, 70)[:60] == before
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.ARRIVAL], arrival=interval(before[15]))
    assert table["arrival"].to_pylist() == [time for time in arrivals(storage, 70) if time >= before[15]]


def arrivals(storage: StorageServer, end_key: int) -> list[int]:
    """Arrival time of every key, as a watcher learns them."""
    found: list[int] = []
    stream = storage.stub.WatchDataset(WatchDatasetRequest(dataset=NAME, cursor=0))
    for message in stream:
        assert message.keys.start == len(found)
        found += [message.arrival] * (message.keys.end - message.keys.start)
        if len(found) >= end_key:
            break
    cancel(stream)
    return found


def test_samples_deleted_while_they_are_rewritten_stay_deleted(
    storage: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.register()
    fill(storage, 5)
    storage.delete([1])
    original = compaction._written

    def slow(*args: object) -> SegmentInfo:
        info = original(*args)  # type: ignore[arg-type]
        storage.delete([2, 41])
        storage.set_labels("meanwhile", {"key": [1, 3], "label": [8, 9]})
        fill(storage, 1, first=5)
        return info

    monkeypatch.setattr(compaction, "_written", slow)
    storage.compact()
    monkeypatch.setattr(compaction, "_written", original)
    described = storage.describe()
    assert (described.end_key, described.num_deleted, described.num_deleted_stored) == (60, 3, 2)
    found = everything(storage)
    assert found["key"] == [key for key in range(60) if key not in (1, 2, 41)]
    assert found["label"] == [9 if key == 3 else key % 3 for key in found["key"]]  # type: ignore[operator]
    storage.compact()
    assert everything(storage) == found
    assert storage.describe().num_deleted_stored == 0
    assert storage.verify() == []


def test_segments_of_different_roles_and_types_are_joined(storage: StorageServer, folder: Path) -> None:
    """Labels that come late, roles by pattern, nulls, lists: nothing is mixed up."""
    roles = {"**/test*": "test"}
    storage.register({"format": "jsonl", "path": str(folder), "settle_seconds": 0, "timestamp": "t", "roles": roles})
    for number in range(6):
        lines = "".join(
            f'{{"x": {[number] * (row % 3)}, "s": {"null" if row % 2 else chr(34) + str(row) + chr(34)}, "t": {row}}}\n'
            for row in range(7)
        )
        (folder / f"{'test' if number % 2 else 'train'}{number}.jsonl").write_text(lines)
        storage.ingest()
    storage.set_labels("a", {"key": [1], "label": [1.5]})
    columns = [Column.TIMESTAMP, Column.LABEL, Column.ROLE]
    before = read_columns(storage.stub, NAME, interval(), columns=columns).to_pydict()
    samples = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(42)), batch_size=42))
    storage.delete([20])
    storage.compact()
    assert storage.describe().num_segments == 1
    [info] = storage.service._datasets.get(NAME).snapshot.segments
    assert info.kind == MERGED
    after = read_columns(storage.stub, NAME, interval(), columns=columns).to_pydict()
    assert {name: [*column[:20], *column[21:]] for name, column in before.items()} == after
    again = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(42)), batch_size=42))
    for name, column in samples.columns.items():
        values = column.to_pylist()
        assert again.columns[name].to_pylist() == [*values[:20], *values[21:]]
    assert storage.verify() == []


def test_large_segments_are_left_alone(storage: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (compaction, segments):
        monkeypatch.setattr(module, "MAX_SEGMENT_SAMPLES", 100)
    storage.register()
    for number, size in enumerate((60, 10, 20, 30, 45, 60, 60, 5, 5)):
        storage.append(f"{number}", {"x": np.arange(size), "timestamp": np.arange(size)})
    names = [info.name for info in storage.service._datasets.get(NAME).snapshot.segments]
    storage.compact()
    left = storage.service._datasets.get(NAME).snapshot.segments
    assert [info.num_samples for info in left] == [60, 60, 45, 60, 60, 10]
    assert [left[index].name for index in (0, 2, 3, 4)] == [names[index] for index in (0, 4, 5, 6)]


def test_a_local_read_outlives_the_removal_of_links(storage: StorageServer, folder: Path) -> None:
    """It has the files in memory; nobody tells it that compaction has replaced their segment."""
    numbers = np.arange(2000, dtype=np.int64)
    (folder / "a.bin").write_bytes(numbers.tobytes())
    storage.register({"format": "binary", "path": str(folder), "record_size": 8, "settle_seconds": 0})
    storage.ingest()
    [link] = (storage.state.path / "datasets").glob("*/segments/*/files/0")
    keys = np.tile(numbers, 1500)  # several requests' worth
    batches = read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=1000, local=True)
    first = next(batches)
    storage.delete([1999])
    storage.compact()
    eventually(lambda: not link.exists())
    found = [value for batch in [first, *batches] for value in batch.columns["payload"].to_pylist()]
    assert set(found) <= {number.tobytes() for number in numbers}
    assert len(found) >= 1999 * 1500
