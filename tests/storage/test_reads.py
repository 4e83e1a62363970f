"""Reading columns and samples, against an obviously right oracle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modyn.core.arrow import concat_messages
from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.core.keysets import KeyRange, KeySet, ranges_to_proto
from modyn.core.rpc import arrow_stream
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import InspectSamplesRequest, ReadColumnsRequest
from modyn.storage import dataset as dataset_module
from modyn.storage import staging
from modyn.storage.reader import Column, Order, SampleBatch, read_columns, read_samples
from modyn.storage.segments import PAYLOAD_FILE
from tests.storage.support import LONG_AGO, NAME, StorageServer, interval, settle

COLUMNS = (Column.TIMESTAMP, Column.LABEL, Column.ARRIVAL)


@dataclass(frozen=True)
class Row:
    """One sample as the oracle knows it; ``superseded_at`` is the end key from which on it is not live."""

    key: int
    timestamp: int
    label: int | None
    arrival: int
    value: float
    superseded_at: int | None

    def is_live(self, end_key: int) -> bool:
        return self.key < end_key and (self.superseded_at is None or self.superseded_at > end_key)


@dataclass(frozen=True)
class Stream:
    storage: StorageServer
    rows: list[Row]

    @property
    def end_key(self) -> int:
        return len(self.rows)


class Clock:
    """Stands for the ``time`` module: a commit a second."""

    monotonic = staticmethod(time.monotonic)
    now = 100.0

    def time(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """Many small segments, from files and batches, with ties, missing labels and superseded samples."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(11)
    rows: list[Row] = []
    keys_of_file: dict[str, range] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "MAX_SEGMENT_SAMPLES", 9)
        patch.setattr(dataset_module, "time", Clock())
        storage = StorageServer(StateDirectory(tmp_path_factory.mktemp("state")))
        storage.register({"format": "parquet", "path": str(folder), "timestamp": "t", "label": "y"})
        for step in range(8):
            count = int(rng.integers(5, 25))
            times = rng.integers(10 * step, 10 * step + 30, count)
            labels = [int(label) if label else None for label in rng.integers(0, 5, count)]
            values = rng.random(count)
            order = range(count)
            end_key = len(rows) + count
            if step % 2:
                storage.append(str(step), {"v": values, "timestamp": times, "label": labels})
            else:
                name = f"{step % 4}.parquet"  # so that steps 4 and 6 replace the files of steps 0 and 2
                pq.write_table(pa.table({"t": times, "y": labels, "v": values}), folder / name)
                settle(folder / name, LONG_AGO + step)
                storage.ingest()
                order = sorted(order, key=lambda i: times[i])  # type: ignore[assignment]
                for key in keys_of_file.get(name, ()):
                    rows[key] = replace(rows[key], superseded_at=end_key)
                keys_of_file[name] = range(len(rows), end_key)
            arrival = storage.describe().last_arrival
            for i in order:
                rows.append(Row(len(rows), int(times[i]), labels[i], arrival, float(values[i]), None))
        assert len({row.arrival for row in rows}) == 8
        assert storage.describe().num_superseded > 10
    yield Stream(storage, rows)
    storage.stop()


def _expected(rows: list[Row], order: int) -> list[tuple[int, int, int | None, int]]:
    if order == Order.EVENT_TIME:
        rows = sorted(rows, key=lambda row: (row.timestamp, row.key))
    return [(row.key, row.timestamp, row.label, row.arrival) for row in rows]


def _found(table: pa.Table) -> list[tuple[int, ...]]:
    assert all(column.num_chunks == 1 for column in table.columns)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


bounds = st.one_of(st.none(), st.integers(-5, 110))
times_of_arrival = st.one_of(st.none(), st.integers(98, 112))
orders = st.sampled_from([Order.ORDER_UNSPECIFIED, Order.KEY, Order.EVENT_TIME])
ranges = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 30)), max_size=6)
property_test = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _in_bounds(value: int, start: int | None, end: int | None) -> bool:
    return (start is None or value >= start) and (end is None or value < end)


@property_test
@given(start=bounds, end=bounds, order=orders, cut=st.integers(0, 200), arrived=st.tuples(*[times_of_arrival] * 2))
def test_intervals_equal_the_oracle(
    stream: Stream, start: int | None, end: int | None, order: int, cut: int, arrived: tuple[int | None, int | None]
) -> None:
    end_key = min(cut, stream.end_key)
    rows = [
        row
        for row in stream.rows
        if row.is_live(end_key) and _in_bounds(row.timestamp, start, end) and _in_bounds(row.arrival, *arrived)
    ]
    table = read_columns(
        stream.storage.stub,
        NAME,
        interval(start, end),
        columns=COLUMNS,
        order=order,  # type: ignore[arg-type]
        end_key=cut,
        arrival=interval(*arrived),
    )
    assert _found(table) == _expected(rows, order)


def _as_ranges(drawn: list[tuple[int, int]], limit: int) -> tuple[KeyRange, ...]:
    """Ascending, disjoint, possibly touching ranges below a limit."""
    found, position = [], 0
    for gap, length in drawn:
        start, end = position + gap, min(position + gap + length, limit)
        if start < end:
            found.append(KeyRange(start, end))
        position = end
    return tuple(found)


@property_test
@given(drawn=ranges, order=orders, cut=st.integers(0, 200), arrived=st.tuples(*[times_of_arrival] * 2))
def test_ranges_equal_the_oracle(
    stream: Stream, drawn: list[tuple[int, int]], order: int, cut: int, arrived: tuple[int | None, int | None]
) -> None:
    wanted = _as_ranges(drawn, stream.end_key)
    end_key = min(cut, stream.end_key)
    inside = {key for r in wanted for key in range(r.start, r.end)}
    live = [row for row in stream.rows if row.key in inside and row.is_live(end_key)]
    rows = [row for row in live if _in_bounds(row.arrival, *arrived)]
    table = read_columns(
        stream.storage.stub,
        NAME,
        KeySet(ranges=wanted),
        columns=COLUMNS,
        order=order,  # type: ignore[arg-type]
        end_key=cut,
        arrival=interval(*arrived),
    )
    assert _found(table) == _expected(rows, order)
    info = stream.storage.stub.InspectSamples(
        InspectSamplesRequest(dataset=NAME, ranges=ranges_to_proto(wanted), end_key=cut)
    )
    assert info.num_samples == len(live)
    assert info.num_unlabelled == sum(row.label is None for row in live)
    if live:
        assert info.first_timestamp == min(row.timestamp for row in live)
        assert info.last_timestamp == max(row.timestamp for row in live)
    else:
        assert not info.HasField("first_timestamp")


@property_test
@given(
    keys=st.lists(st.integers(0, 60), max_size=80),
    order=st.sampled_from([Order.ORDER_UNSPECIFIED, Order.REQUEST, Order.KEY, Order.EVENT_TIME]),
    by_server=st.booleans(),
)
def test_single_keys_equal_the_oracle(stream: Stream, keys: list[int], order: int, by_server: bool) -> None:
    rows = [stream.rows[key] for key in keys]
    if order == Order.KEY:
        rows.sort(key=lambda row: row.key)
    key_set = KeySet(array=np.array(keys, dtype=np.int64))
    if by_server:
        request = ReadColumnsRequest(dataset=NAME, keys=key_set.to_proto(), columns=COLUMNS, order=order)  # type: ignore[arg-type]
        table = concat_messages(arrow_stream(stream.storage.stub.ReadColumns(request)))
        assert table is not None
    else:
        table = read_columns(stream.storage.stub, NAME, key_set, columns=COLUMNS, order=order)  # type: ignore[arg-type]
    assert _found(table) == _expected(rows, order)


@property_test
@given(keys=st.lists(st.integers(0, 60), max_size=80), batch_size=st.integers(1, 90), as_ranges=st.booleans())
def test_samples_equal_the_oracle(stream: Stream, keys: list[int], batch_size: int, as_ranges: bool) -> None:
    keys = sorted(set(keys)) if as_ranges else keys
    key_set = KeySet.from_array(keys) if as_ranges else KeySet(array=np.array(keys, dtype=np.int64))
    batches = list(read_samples(stream.storage.stub, NAME, key_set, batch_size=batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    found = [row for batch in batches for row in _samples(batch)]
    expected = [stream.rows[key] for key in keys]
    assert found == [(row.key, row.label, row.timestamp, row.value) for row in expected]


def _samples(batch: SampleBatch) -> list[tuple[int, int | None, int, float]]:
    columns = (batch.keys.tolist(), batch.labels.to_pylist(), batch.timestamps.tolist())
    return list(zip(*columns, batch.columns["v"].to_pylist(), strict=True))


def test_the_content_digest_changes_with_the_content_only(stream: Stream) -> None:
    stub = stream.storage.stub

    def digest(**part: object) -> str:
        return stub.InspectSamples(InspectSamplesRequest(dataset=NAME, **part)).content_digest  # type: ignore[arg-type]

    assert digest() == digest(interval=interval())
    assert digest(interval=interval(0, 10)) == digest(interval=interval(0, 10))
    assert digest(end_key=20) != digest(end_key=21) != digest()
    assert digest(ranges=ranges_to_proto([KeyRange(0, 5)])) != digest(ranges=ranges_to_proto([KeyRange(30, 35)]))


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("keys", [[0, 99_999], [-1]])
def test_keys_that_do_not_exist_are_named(stream: Stream, keys: list[int]) -> None:
    message = rf"key {keys[-1]} does not exist in dataset 'stream', whose end key is {stream.end_key}"
    with pytest.raises(InvalidInputError, match=message):
        list(read_samples(stream.storage.stub, NAME, KeySet(array=np.array(keys)), batch_size=10))
    with pytest.raises(InvalidInputError, match=message):
        read_columns(stream.storage.stub, NAME, KeySet(array=np.array(keys)))


def test_ranges_beyond_the_end_are_refused(stream: Stream) -> None:
    with pytest.raises(InvalidInputError, match="key 99999 does not exist"):
        read_columns(stream.storage.stub, NAME, KeySet(ranges=(KeyRange(0, 100_000),)))


def test_payload_columns_are_chosen_and_checked(stream: Stream) -> None:
    [batch] = read_samples(stream.storage.stub, NAME, KeySet.from_array([0]), batch_size=5, columns=["v"])
    assert list(batch.columns) == ["v"]
    with pytest.raises(InvalidInputError, match=r"no payload column 'vv'.*did you mean 'v'"):
        list(read_samples(stream.storage.stub, NAME, KeySet.from_array([0]), batch_size=5, columns=["vv"]))
    with pytest.raises(InvalidInputError, match="batch_size 0"):
        list(read_samples(stream.storage.stub, NAME, KeySet.from_array([0]), batch_size=0))


def test_request_order_needs_keys(stream: Stream) -> None:
    with pytest.raises(InvalidInputError, match="order REQUEST needs `keys`"):
        read_columns(stream.storage.stub, NAME, interval(), order=Order.REQUEST)


def test_an_empty_dataset_answers_nothing(storage: StorageServer) -> None:
    storage.register()
    table = read_columns(storage.stub, NAME, interval(), columns=COLUMNS, order=Order.EVENT_TIME)
    assert (table.num_rows, table.schema.names) == (0, ["key", "timestamp", "label", "arrival"])
    assert list(read_samples(storage.stub, NAME, KeySet(ranges=()), batch_size=5)) == []
    with pytest.raises(InvalidInputError, match="it has no samples yet"):
        list(read_samples(storage.stub, NAME, KeySet.from_array([0]), batch_size=5))


def _payload_file(storage: StorageServer) -> Path:
    [path] = (storage.state.path / "datasets").glob(f"*/segments/*/{PAYLOAD_FILE}")
    return path


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_a_damaged_segment_is_named(storage: StorageServer, damage: str) -> None:
    storage.register()
    storage.append("one", {"x": np.arange(1000.0)})
    path = _payload_file(storage)
    storage.stop()
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "remove":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    storage.start()
    damaged = storage.verify()
    assert damaged
    assert all(str(path) in damage for damage in damaged)
    if damage != "flip":
        with pytest.raises(CorruptDataError, match=str(path)):
            list(read_samples(storage.stub, NAME, KeySet.from_array([5]), batch_size=5))
    assert storage.describe().num_samples == 1000
