"""Columns with entries about samples: what comes back, and what is never stored."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modyn.core.arrow import encode_batch
from modyn.core.errors import CancelledError, CorruptDataError, InvalidInputError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX
from modyn.proto.selector_pb2 import SampleColumns, SampleColumnsHeader, StoreSampleColumnsRequest
from modyn.proto.selector_pb2_grpc import SelectorStub
from modyn.selector import reader
from modyn.selector.reader import describe_sample_columns, read_sample_columns, store_sample_columns
from modyn.selector.sample_columns import SampleColumnFiles
from tests.helpers.services import StorageAndSelector

HEADER = StoreSampleColumnsRequest(header=SampleColumnsHeader(dataset="d", kind="trained"))


@pytest.fixture(scope="module")
def services() -> Iterator[StorageAndSelector]:
    with tempfile.TemporaryDirectory(prefix="modyn-") as folder:
        services = StorageAndSelector.start(Path(folder) / "s")
        yield services
        services.close()


@pytest.fixture
def stub(services: StorageAndSelector) -> SelectorStub:
    return services.peers.selector


def files_of(services: StorageAndSelector) -> set[str]:
    return {path.name for path in services.state.folder("sample_columns").iterdir()}


def rows(num_rows: int, **columns: Any) -> pa.RecordBatch:
    weights = np.linspace(0, 1, num_rows, dtype=np.float32)
    return pa.record_batch({"key": np.arange(num_rows, dtype=np.int64), "weight": weights, **columns})


def message(batch: pa.RecordBatch) -> StoreSampleColumnsRequest:
    return StoreSampleColumnsRequest(batch=encode_batch(batch))


def cuts(num_rows: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, num_rows), max_size=5).map(sorted)


DTYPES = ["i1", "u1", "i4", "u8", "f2", "f4", "f8"]


@given(data=st.data(), num_rows=st.integers(0, 40), dtype=st.sampled_from(DTYPES))
@settings(max_examples=25, deadline=None)
def test_columns_read_back_whatever_their_batches(
    services: StorageAndSelector, data: st.DataObject, num_rows: int, dtype: str
) -> None:
    stub = services.peers.selector
    values = data.draw(arrays.arrays(dtype, num_rows, elements=arrays.from_dtype(np.dtype(dtype))))
    batch = pa.record_batch({"key": np.arange(num_rows, dtype=np.int64), "value": values})
    bounds = [0, *data.draw(cuts(num_rows)), num_rows]
    parts = [batch.slice(start, stop - start) for start, stop in pairwise(bounds)]
    digest = store_sample_columns(stub, "d", "scores", [batch])
    # Past the joining of small batches, as another client might send them.
    sent = [HEADER, *map(message, parts), StoreSampleColumnsRequest(num_rows=num_rows)]
    sent[0] = StoreSampleColumnsRequest(header=SampleColumnsHeader(dataset="d", kind="scores"))
    assert stub.StoreSampleColumns(iter(sent)).digest == digest
    assert store_sample_columns(stub, "d", "scores", parts) == digest
    # Opened anew, so that it is verified.
    table = SampleColumnFiles(services.state.folder("sample_columns")).get(digest)
    for found in (table, read_sample_columns(stub, digest)):
        assert found.column_names == ["key", "value"]
        assert found["value"].to_numpy().tobytes() == values.tobytes()  # NaNs too
        assert found["value"].type == batch["value"].type
    described = describe_sample_columns(stub, digest)
    expected = SampleColumns(digest=digest, dataset="d", kind="scores", num_rows=num_rows, names=["key", "value"])
    assert described == expected


def test_the_digest_is_of_everything_that_a_reader_sees(stub: SelectorStub) -> None:
    variants = [
        ("d", "trained", rows(5)),
        ("e", "trained", rows(5)),
        ("d", "scores", rows(5)),
        ("d", "trained", rows(4)),
        ("d", "trained", rows(5).rename_columns(["key", "weights"])),
        ("d", "trained", rows(5).select(["weight", "key"])),
        ("d", "trained", rows(5, weight=np.zeros(5, np.float32))),
        ("d", "trained", rows(5, weight=np.zeros(5, np.int32))),  # the same bytes
    ]
    assert len({store_sample_columns(stub, dataset, kind, [batch]) for dataset, kind, batch in variants}) == 8


def test_a_part_can_be_read(stub: SelectorStub) -> None:
    batch = rows(200_000)  # of several messages
    digest = store_sample_columns(stub, "d", "trained", (batch.slice(at, 7_000) for at in range(0, 200_000, 7_000)))
    assert len(list(reader.stream_sample_columns(stub, digest))) > 1
    assert read_sample_columns(stub, digest, offset=99_000, count=5)["key"].to_pylist() == list(range(99_000, 99_005))
    assert read_sample_columns(stub, digest, offset=199_999)["key"].to_pylist() == [199_999]
    assert read_sample_columns(stub, digest, offset=200_000).num_rows == 0
    for offset, count in ((200_001, None), (-1, None), (0, 200_001), (10, -1)):
        with pytest.raises(InvalidInputError, match="200000 rows; cannot read"):
            read_sample_columns(stub, digest, offset=offset, count=count)


CUT: dict[str, list[StoreSampleColumnsRequest]] = {
    "before the batches": [HEADER],
    "after a batch": [HEADER, message(rows(3))],
    "of too few rows": [HEADER, message(rows(3)), StoreSampleColumnsRequest(num_rows=4)],
    "of too many rows": [HEADER, message(rows(3)), message(rows(3)), StoreSampleColumnsRequest(num_rows=4)],
    "without a batch": [HEADER, StoreSampleColumnsRequest(num_rows=0)],
    "without a header": [message(rows(3)), StoreSampleColumnsRequest(num_rows=3)],
    "without a kind": [
        StoreSampleColumnsRequest(header=SampleColumnsHeader(dataset="d")),
        message(rows(3)),
        StoreSampleColumnsRequest(num_rows=3),
    ],
    "that goes on": [HEADER, message(rows(3)), StoreSampleColumnsRequest(num_rows=3), message(rows(0))],
    "of nothing": [],
    "of other batches": [
        HEADER,
        message(rows(3)),
        message(rows(3, weight=np.zeros(3))),
        StoreSampleColumnsRequest(num_rows=6),
    ],
}


@pytest.mark.parametrize("messages", CUT.values(), ids=CUT.keys())
def test_a_stream_that_is_not_whole_stores_nothing(
    services: StorageAndSelector, messages: list[StoreSampleColumnsRequest]
) -> None:
    before = files_of(services)
    with pytest.raises((InvalidInputError, CancelledError), match="StoreSampleColumns"):
        services.peers.selector.StoreSampleColumns(iter(messages))
    assert files_of(services) == before


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (pa.record_batch({"key": pa.array([1, None])}), "'key': 1 entries are null"),
        (pa.record_batch({"key": ["a"]}), "'key': its type is string"),
        (pa.record_batch({"key": [True]}), "'key': its type is bool"),
        (pa.record_batch([pa.array([1]), pa.array([2])], names=["a", "a"]), "different names"),
        (pa.record_batch([], schema=pa.schema([])), "at least one"),
    ],
)
def test_only_numbers_are_columns(services: StorageAndSelector, batch: pa.RecordBatch, said: str) -> None:
    before = files_of(services)
    with pytest.raises(InvalidInputError, match=said):
        store_sample_columns(services.peers.selector, "d", "scores", [batch])
    assert files_of(services) == before


def test_what_the_batches_raise_is_raised(services: StorageAndSelector) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield rows(300_000)
        raise ZeroDivisionError("while they were made")

    before = files_of(services)
    with pytest.raises(ZeroDivisionError, match="while they were made"):
        store_sample_columns(services.peers.selector, "d", "trained", batches())
    assert files_of(services) == before


def test_a_caller_that_dies_leaves_nothing(services: StorageAndSelector) -> None:
    """Its connection breaks in the middle of the stream."""
    before = files_of(services)
    channel = grpc.insecure_channel(services.peers.addresses.selector)

    def messages() -> Iterator[StoreSampleColumnsRequest]:
        yield HEADER
        for _ in range(20):
            yield message(rows(50_000))
        channel.close()

    with pytest.raises((grpc.RpcError, ValueError)):
        SelectorStub(channel).StoreSampleColumns(messages())
    for _ in range(100):
        if files_of(services) == before:
            break
        time.sleep(0.05)
    assert files_of(services) == before


@pytest.mark.parametrize("digest", ["0" * 40, "", "../../catalog", "0" * 39 + "/", "0" * 41])
def test_an_unknown_digest(stub: SelectorStub, digest: str) -> None:
    with pytest.raises(NotFoundError, match=r"there (is|are) no"):
        describe_sample_columns(stub, digest)
    with pytest.raises(NotFoundError, match=r"there (is|are) no"):
        read_sample_columns(stub, digest)


@pytest.mark.parametrize("fault", ["a flipped bit", "cut", "empty", "another name", "another version"])
def test_a_damaged_file_is_reported_and_mended(tmp_path: Path, fault: str) -> None:
    content = [HEADER, message(rows(1000)), StoreSampleColumnsRequest(num_rows=1000)]
    files = SampleColumnFiles(tmp_path)
    digest = files.store(iter(content)).digest
    path = files.path(digest)
    data = bytearray(path.read_bytes())
    if fault == "a flipped bit":
        data[data.index(np.arange(5, 9).tobytes())] ^= 1
    elif fault == "another version":
        data = data.replace(b"\x01\x00\x00\x001\x00", b"\x01\x00\x00\x007\x00")
        assert data != path.read_bytes()
    elif fault == "another name":
        digest = "0" * 40
        path = files.path(digest)
    path.write_bytes(data[:300] if fault == "cut" else b"" if fault == "empty" else data)
    with pytest.raises(CorruptDataError, match=digest):
        files.describe(digest)
    if fault != "another name":
        files.store(iter(content))
        assert files.describe(digest).num_rows == 1000


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}1.arrow").write_bytes(b"half")
    SampleColumnFiles(tmp_path)
    assert list(tmp_path.iterdir()) == []
