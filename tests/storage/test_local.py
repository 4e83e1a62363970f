"""Reading the service's files directly answers what the service answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import CorruptDataError, InvalidInputError, NotAvailableError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import (
    DeleteSamplesRequest,
    LabelsAsOf,
    Purpose,
    ReadSamplesRequest,
    Role,
    SampleLocations,
)
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage import batches, local, staging
from modyn.storage.reader import SampleBatch, read_samples, set_labels
from modyn.storage.segments import SegmentCache
from tests.storage.samples import CASES, write_stream
from tests.storage.support import NAME, StorageServer

COUNT = 400

KINDS = {
    "number": pa.float32(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "blob": pa.large_binary(),
    "fixed": pa.binary(30),
    "vector": pa.list_(pa.float32(), 7),
    "list": pa.list_(pa.int64()),
}


def random_columns(rng: np.random.Generator, count: int, *, nulls: bool) -> dict[str, Any]:
    makers: dict[str, Any] = {
        "number": lambda: float(rng.integers(99)),
        "flag": lambda: bool(rng.integers(2)),
        "text": lambda: "é" * int(rng.integers(20)),
        "blob": lambda: rng.bytes(int(rng.integers(100))),
        "fixed": lambda: rng.bytes(30),
        "vector": lambda: rng.integers(0, 9, 7).tolist(),
        "list": lambda: rng.integers(0, 9, rng.integers(4)).tolist(),
    }
    columns: dict[str, Any] = {
        name: pa.array([None if nulls and rng.random() < 0.2 else makers[name]() for _ in range(count)], kind)
        for name, kind in KINDS.items()
    }
    labels = [None if rng.random() < 0.2 else int(rng.integers(5)) for _ in range(count)]
    return {**columns, "label": pa.array(labels, pa.int64()), "timestamp": rng.integers(0, 1000, count)}


@pytest.fixture(scope="module")
def appended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageServer]:
    """Columns of many types in many segments; the first has no labels."""
    rng = np.random.default_rng(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "MAX_SEGMENT_SAMPLES", 37)
        storage = StorageServer(StateDirectory(tmp_path_factory.mktemp("state")))
        storage.register()
        for number in range(4):
            columns = random_columns(rng, COUNT // 4, nulls=number % 2 == 1)
            if number == 0:
                del columns["label"]
            storage.append(str(number), columns)
    yield storage
    storage.stop()


def read(storage: StorageServer, keys: KeySet, *, local: bool | None, **options: Any) -> list[SampleBatch]:
    options = {"batch_size": 64, **options}
    return list(read_samples(storage.stub, NAME, keys, local=local, **options))


def assert_equal(found: list[SampleBatch], expected: list[SampleBatch]) -> None:
    assert [len(batch) for batch in found] == [len(batch) for batch in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.keys.tolist() == other.keys.tolist()
        assert one.timestamps.tolist() == other.timestamps.tolist()
        assert one.labels.equals(other.labels)
        assert list(one.columns) == list(other.columns)
        for name, column in one.columns.items():
            column.validate(full=True)
            assert column.equals(other.columns[name])


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_columns_of_any_type_are_the_same(appended: StorageServer, batch_size: int) -> None:
    rng = np.random.default_rng(batch_size)
    key_sets = [
        KeySet.from_array(rng.permutation(COUNT)),
        KeySet.from_array(rng.integers(0, COUNT, 150)),
        KeySet(ranges=(KeyRange(3, 50), KeyRange(90, 300))),
        KeySet.from_array([5]),
        KeySet(ranges=()),
    ]
    for keys in key_sets:
        expected = read(appended, keys, local=False, batch_size=batch_size)
        assert_equal(read(appended, keys, local=True, batch_size=batch_size), expected)
        assert_equal(read(appended, keys, local=None, batch_size=batch_size), expected)
        assert np.array_equal(np.concatenate([np.empty(0), *(b.keys for b in expected)]), keys.to_array())


def test_columns_are_chosen_and_checked(appended: StorageServer) -> None:
    keys = KeySet.from_array([7, 300])
    names = ["text", "number"]
    [batch] = read(appended, keys, local=True, columns=names)
    assert list(batch.columns) == names
    assert_equal([batch], read(appended, keys, local=False, columns=names))
    wrongs: list[dict[str, Any]] = [{"columns": ["texd"]}, {"keys": KeySet.from_array([COUNT])}]
    for wrong in wrongs:
        with pytest.raises(InvalidInputError) as by_service:
            read(appended, **{"keys": keys, "local": False, **wrong})
        with pytest.raises(InvalidInputError) as by_client:
            read(appended, **{"keys": keys, "local": True, **wrong})
        assert by_client.value.message == by_service.value.message


@pytest.mark.parametrize("name", ["binary", "numpy", "arrow", "files", "parquet"])
def test_samples_of_files_are_the_same(storage: StorageServer, folder: Path, name: str) -> None:
    case = CASES[name]
    write_stream(case, folder, count=300)
    storage.register({"format": name, "path": str(folder), **case.source()})
    storage.ingest()
    keys = KeySet.from_array(np.random.default_rng(3).permutation(300))
    found = read(storage, keys, local=True)
    assert_equal(found, read(storage, keys, local=False))
    assert sorted(number for batch in found for number in case.numbers(batch.columns)) == list(range(300))


def test_late_labels_and_deletions_count(storage: StorageServer) -> None:
    rng = np.random.default_rng(5)
    storage.register()
    storage.append("one", random_columns(rng, COUNT, nulls=True))
    keys = KeySet.from_array(rng.permutation(COUNT))
    late = pa.record_batch(
        {"key": np.arange(0, COUNT, 3), "label": np.full(134, 77), "label_time": np.arange(134) + 2_000}
    )
    set_labels(storage.stub, NAME, "late", [late])
    for as_of in (None, LabelsAsOf(label_time=2_050), LabelsAsOf(version=0)):
        assert_equal(read(storage, keys, local=True, labels=as_of), read(storage, keys, local=False, labels=as_of))
    newest = np.concatenate([batch.labels.fill_null(-1).to_numpy() for batch in read(storage, keys, local=True)])
    assert (newest == 77).sum() == 134
    gone = KeySet.from_array(np.arange(0, COUNT, 5))
    storage.stub.DeleteSamples(DeleteSamplesRequest(dataset=NAME, keys=gone.to_proto()))
    for as_of in (None, LabelsAsOf(label_time=2_050)):
        found = read(storage, keys, local=True, labels=as_of)
        assert_equal(found, read(storage, keys, local=False, labels=as_of))
        assert not set(np.concatenate([batch.keys for batch in found]).tolist()) & set(gone.to_array().tolist())
    assert read(storage, gone, local=True) == []


@pytest.mark.parametrize("way", [True, False])
def test_many_requests_of_which_some_find_nothing(
    storage: StorageServer, way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "KEYS_PER_MESSAGE", 8)
    monkeypatch.setattr(batches, "RANGED_KEYS_PER_MESSAGE", 8)
    storage.register()
    storage.append("one", {"x": np.arange(float(COUNT))})
    gone = KeySet(ranges=(KeyRange(10, 60), KeyRange(390, COUNT)))
    storage.stub.DeleteSamples(DeleteSamplesRequest(dataset=NAME, keys=gone.to_proto()))
    left = [*range(10), *range(60, 390)]
    for keys in (KeySet(array=np.arange(COUNT)), KeySet(ranges=(KeyRange(0, COUNT),))):
        found = read(storage, keys, local=way, batch_size=3)
        assert [len(batch) for batch in found] == [3] * 113 + [1]
        assert np.concatenate([batch.columns["x"].to_numpy() for batch in found]).tolist() == left
    assert [batch.keys.tolist() for batch in read(storage, KeySet.from_array([5, 20, 6]), local=way)] == [[5, 6]]


def test_test_samples_are_refused(storage: StorageServer, folder: Path) -> None:
    case = CASES["binary"]
    write_stream(case, folder, count=20, files=1)
    storage.register({"format": "binary", "path": str(folder), "role": "test", **case.source()})
    storage.ingest()
    assert storage.describe().role in (Role.TEST, Role.ANY, Role.ROLE_UNSPECIFIED)
    for way in (True, False, None):
        with pytest.raises(InvalidInputError, match="training may not read test samples"):
            read(storage, KeySet.from_array([3]), local=way, purpose=Purpose.TRAINING)


class Elsewhere:
    """A stub of a service that answers where samples lie in another way; counts the calls."""

    def __init__(self, stub: StorageStub, answers: list[dict[str, Any]]) -> None:
        self._stub = stub
        self._answers = answers
        self.calls: list[str] = []

    def LocateSamples(self, request: ReadSamplesRequest) -> SampleLocations:
        self.calls.append("LocateSamples")
        answer = self._stub.LocateSamples(request)
        for field, value in (self._answers.pop(0) if self._answers else {}).items():
            if field == "name":
                answer.segments[0].name = value
            else:
                setattr(answer, field, value)
        return answer

    def ReadSamples(self, request: ReadSamplesRequest) -> Any:
        self.calls.append("ReadSamples")
        return self._stub.ReadSamples(request)


def read_elsewhere(stub: Any, way: bool | None) -> int:
    keys = KeySet.from_array(np.arange(COUNT)[::-1])
    return sum(len(batch) for batch in read_samples(stub, NAME, keys, batch_size=64, local=way))


@pytest.mark.parametrize("told", [{"host_token": "other"}, {"host_token": ""}, {"host_file": "/no/such/file"}])
def test_a_service_on_another_host_is_remembered(appended: StorageServer, told: dict[str, str]) -> None:
    stub = Elsewhere(appended.stub, [told, {}])
    assert read_elsewhere(stub, None) == COUNT
    assert read_elsewhere(stub, None) == COUNT
    assert stub.calls == ["LocateSamples", "ReadSamples", "ReadSamples"]
    with pytest.raises(NotAvailableError, match=r"not on this host.*local=False"):
        read_elsewhere(Elsewhere(appended.stub, [told]), True)


def test_files_that_compaction_replaced_are_asked_for_again(appended: StorageServer) -> None:
    stub = Elsewhere(appended.stub, [{"name": "replaced"}])
    assert read_elsewhere(stub, True) == COUNT
    assert stub.calls == ["LocateSamples", "LocateSamples"]
    missing = [{"name": "replaced"}, {"name": "replaced"}]
    stub = Elsewhere(appended.stub, list(missing))
    assert read_elsewhere(stub, None) == COUNT
    assert stub.calls == ["LocateSamples", "LocateSamples", "ReadSamples"]
    with pytest.raises(CorruptDataError, match="replaced"):
        read_elsewhere(Elsewhere(appended.stub, list(missing)), True)


def test_open_segments_are_bounded(appended: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SegmentCache(3)
    monkeypatch.setattr(local, "_segments", cache)
    assert read_elsewhere(appended.stub, True) == COUNT
    assert len(cache._open) == 3
