"""The client side: prefetch, batches, messages of any size, callers that go away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest

from modyn.core.arrow import encode_batch
from modyn.core.errors import CorruptDataError
from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.storage_pb2 import ReadSamplesRequest
from modyn.storage import reader
from modyn.storage.reader import Order, append, read_columns, read_samples
from tests.storage.support import NAME, StorageServer, interval

COUNT = 300_000


@pytest.fixture
def filled(storage: StorageServer) -> StorageServer:
    storage.register()
    storage.append("one", {"x": np.arange(float(COUNT)), "label": np.arange(COUNT) % 10})
    return storage


def prefetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_large_key_sets_are_read_in_several_requests(filled: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(0).permutation(COUNT)
    wanted = KeySet(array=keys)
    values = [batch.columns["x"].to_numpy() for batch in read_samples(filled.stub, NAME, wanted, batch_size=999)]
    assert [len(v) for v in values] == [999] * (COUNT // 999) + [COUNT % 999]
    assert np.array_equal(np.concatenate(values), keys.astype(float))
    for order, expected in ((Order.REQUEST, keys), (Order.KEY, np.arange(COUNT))):
        assert np.array_equal(read_columns(filled.stub, NAME, wanted, order=order)["key"].to_numpy(), expected)
    monkeypatch.setattr(reader, "KEYS_PER_MESSAGE", 8)
    ranges = KeySet(ranges=tuple(KeyRange(start, start + 3) for start in range(0, 100, 10)))
    assert read_columns(filled.stub, NAME, ranges)["key"].to_pylist() == ranges.to_array().tolist()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_stops_the_prefetch(filled: StorageServer, taken: int) -> None:
    batches = read_samples(filled.stub, NAME, KeySet(ranges=(KeyRange(0, COUNT),)), batch_size=64, prefetch_messages=2)
    for _ in range(taken):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not prefetchers()


def test_the_prefetch_runs_ahead_but_not_further(filled: StorageServer) -> None:
    batches = read_samples(filled.stub, NAME, KeySet(ranges=(KeyRange(0, COUNT),)), batch_size=10, prefetch_messages=1)
    first = next(batches)
    time.sleep(0.2)
    assert len(prefetchers()) == 1
    total = len(first) + sum(len(batch) for batch in batches)
    assert total == COUNT
    assert not prefetchers()


def test_an_error_in_the_middle_reaches_the_consumer(filled: StorageServer) -> None:
    filled.append("two", {"x": np.arange(5.0)})
    paths = (filled.state.path / "datasets").glob("*/segments/*/payload.arrow")
    small = min(paths, key=lambda path: path.stat().st_size)
    small.unlink()
    batches = read_samples(filled.stub, NAME, KeySet(ranges=(KeyRange(0, COUNT + 5),)), batch_size=1000)
    assert len(next(batches)) == 1000
    with pytest.raises(CorruptDataError, match=str(small)):
        list(batches)
    assert not prefetchers()


def test_samples_of_very_different_sizes_fit_into_messages(storage: StorageServer) -> None:
    storage.register()
    sizes = [10] * 3_000 + [3 << 20] * 30 + [0, 1]
    data = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
    for start in range(0, len(data), 1_000):
        storage.append(str(start), {"data": pa.array(data[start : start + 1_000], pa.binary())})
    keys = np.random.default_rng(0).permutation(len(data))
    for wanted in (keys, np.arange(len(data))):
        found: list[bytes] = []
        for batch in read_samples(storage.stub, NAME, KeySet.from_array(wanted), batch_size=500, prefetch_messages=1):
            found += batch.columns["data"].to_pylist()
        assert found == [data[key] for key in wanted]


def test_messages_have_one_or_two_mebibytes(filled: StorageServer) -> None:
    request = ReadSamplesRequest(dataset=NAME, keys=KeySet(ranges=(KeyRange(0, COUNT),)).to_proto())
    sizes = [len(message) for message in filled.stub.ReadSamples(request)]  # type: ignore[arg-type]
    assert all(700_000 < size < 3_000_000 for size in sizes[:-1])


def test_a_caller_that_goes_away_appends_nothing(storage: StorageServer) -> None:
    """The call is cancelled while its stream is open, as when the caller's process dies. The stream may look ended."""
    storage.register()
    sent = threading.Event()
    release = threading.Event()

    def messages() -> Iterator[bytes]:
        metadata = {b"modyn.dataset": NAME.encode(), b"modyn.batch_id": b"one"}
        yield encode_batch(pa.record_batch({"x": [1.0]}).replace_schema_metadata(metadata))
        sent.set()
        release.wait(10)

    with grpc.insecure_channel(storage.server.address) as channel:
        method: Any = channel.stream_unary("/modyn.v1.Storage/Append")
        call = method.future(messages())
        assert sent.wait(10)
        time.sleep(0.1)
        call.cancel()
    release.set()
    time.sleep(0.3)
    assert storage.describe().end_key == 0
    assert append(storage.stub, NAME, "one", [pa.record_batch({"x": [1.0]})]) == (KeyRange(0, 1), False)


def test_reading_nothing_is_fine(filled: StorageServer) -> None:
    assert list(read_samples(filled.stub, NAME, KeySet(ranges=()), batch_size=3)) == []
    assert read_columns(filled.stub, NAME, KeySet(array=np.empty(0, dtype=np.int64))).num_rows == 0
    assert read_columns(filled.stub, NAME, interval(5, 3)).num_rows == 0
