"""Columns of many kinds, brought to one form."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modyn.core.errors import CorruptDataError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.formats import FORMATS
from modyn.storage.reader import Column, read_columns, read_samples
from modyn.storage.schema import canonical, normal_labels, unix_seconds
from tests.storage.support import NAME, StorageServer, interval, settle

KINDS: dict[str, pa.Array] = {
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "float16": pa.array(np.array([1, 2, 3, 4], np.float16)),
    "bool": pa.array([True, None, False, True]),
    "list": pa.array([[1.0, 2.0], [], None, [3.0]], pa.list_(pa.float32())),
    "fixed_list": pa.array([[1, 2]] * 4, pa.list_(pa.int64(), 2)),
    "struct": pa.array([{"a": 1, "b": "x"}] * 3 + [None]),
    "decimal": pa.array([1, 2, None, 4]).cast(pa.decimal128(21, 2)),
    "time": pa.array([datetime.datetime(2020, 1, 1), None] * 2, pa.timestamp("us", tz="UTC")),
    "large": pa.array([b"x" * 10, b"", None, b"y"], pa.large_binary()),
    "null": pa.nulls(4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_payloads_of_any_type_survive(storage: StorageServer, folder: Path, kind: str) -> None:
    column = KINDS[kind]
    with pa.ipc.new_file(folder / "a.arrow", pa.schema([("v", column.type)])) as writer:
        writer.write_batch(pa.record_batch([column], names=["v"]))
    settle(folder / "a.arrow")
    storage.register({"format": "arrow", "path": str(folder)})
    assert storage.ingest().quarantined == 0
    storage.restart()
    storage.append("one", {"v": pa.concat_arrays([column.slice(1), column.slice(0, 1)])})
    keys = [6, 0, 3, 3, 7, 1, 2, 4, 5]
    expected = column.to_pylist() + column.to_pylist()[1:] + column.to_pylist()[:1]
    [batch] = read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=100)
    assert batch.columns["v"].to_pylist() == [expected[key] for key in keys]
    [batch] = read_samples(storage.stub, NAME, KeySet(ranges=(KeyRange(0, 8),)), batch_size=100)
    assert batch.columns["v"].to_pylist() == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([1, None], pa.int8()), [1, None]),
        (pa.array([True, False]), [1, 0]),
        (pa.array([0.5, float("nan")]), [0.5, None]),
        (pa.array([[1, 2], None]), [[1, 2], None]),
        (pa.array([[0.5], [1.0]], pa.list_(pa.float32(), 1)), [[0.5], [1.0]]),
        (pa.array(["1", "2"]).dictionary_encode(), CorruptDataError),
        (pa.array([2**63], pa.uint64()), CorruptDataError),
    ],
)
def test_labels(labels: pa.Array, expected: Any) -> None:
    if isinstance(expected, list):
        assert normal_labels(labels).to_pylist() == expected
    else:
        with pytest.raises(expected, match="label column 'label'"):
            normal_labels(labels)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([1, -1], pa.int32()), [1, -1]),
        (pa.array([1.9, -0.1]), [1, -1]),
        (pa.array([datetime.date(1970, 1, 2), datetime.date(1969, 12, 31)]), [86_400, -86_400]),
        (pa.array([86_400_000], pa.date64()), [86_400]),
        (pa.array([1_999, -1], pa.timestamp("ms")), [1, -1]),
    ],
)
def test_times(times: pa.Array, expected: list[int]) -> None:
    assert unix_seconds(times).tolist() == expected


@pytest.mark.parametrize("times", [pa.array([float("nan")]), pa.array(["2020-01-01"]), pa.array([1, None])])
def test_what_is_no_time_is_refused(times: pa.Array) -> None:
    with pytest.raises(CorruptDataError, match="timestamp column 'timestamp'"):
        unix_seconds(times)


def test_equal_columns_have_equal_bytes_whatever_lies_under_their_nulls() -> None:
    for kind in (pa.int64(), pa.float32(), pa.timestamp("s"), pa.bool_()):
        values = np.array([1, 0, 1]) if kind == pa.bool_() else np.array([7, 8, 9])
        plain = pa.array(values).cast(kind)
        valid = pa.py_buffer(bytes([0b101]))
        masked = pa.Array.from_buffers(kind, 3, [valid, plain.buffers()[1]])
        other = pa.array([plain[0], None, plain[2]], kind)
        assert canonical(masked).equals(other)
        used = 3 * kind.bit_width // 8 + (kind == pa.bool_())
        data = [canonical(column).buffers()[1].to_pybytes()[:used] for column in (masked, other)]
        assert data[0] == data[1]


# ------------------------------------------------------------------------------------------ options of formats


def ingest_one(storage: StorageServer, folder: Path, source: dict[str, Any]) -> dict[str, list[Any]]:
    """All columns of all samples, with `key`, `label` and `timestamp`, after one ingest."""
    storage.register({"path": str(folder), "settle_seconds": 0, **source})
    progress = storage.ingest()
    assert progress.quarantined == 0, storage.describe().quarantined
    [batch] = read_samples(storage.stub, NAME, KeySet(ranges=(KeyRange(0, progress.end_key),)), batch_size=10_000)
    found = {name: column.to_pylist() for name, column in batch.columns.items()}
    return {**found, "label": batch.labels.to_pylist(), "timestamp": batch.timestamps.tolist()}


def test_csv_without_header_and_with_positions(storage: StorageServer, folder: Path) -> None:
    (folder / "a.csv").write_text("7;'x;y';1;100\n8;'z';;50\n")
    settle(folder / "a.csv")
    source = {"format": "csv", "header": False, "separator": ";", "quote": "'", "label": 2, "timestamp": 3}
    assert ingest_one(storage, folder, source) == {
        "f0": [8, 7],
        "f1": ["z", "x;y"],
        "label": [None, 1],
        "timestamp": [50, 100],
    }


def test_csv_types_come_from_the_configuration_or_the_first_file(storage: StorageServer, folder: Path) -> None:
    (folder / "a.csv").write_text("time,zip,x\n2020-01-01T00:00:00Z,01234,1\n")
    (folder / "b.csv").write_text("x,zip,time\n2,5,2020-01-02\n")
    (folder / "c.csv").write_text("time,zip,x\n2020-01-01,1,1.5\n")
    for path in folder.iterdir():
        settle(path)
    source = {"format": "csv", "timestamp": "time", "types": {"zip": "string"}}
    storage.register({"path": str(folder), **source})
    assert storage.ingest().samples == 2
    assert [(column.name, column.type) for column in storage.describe().payload] == [("zip", "string"), ("x", "int64")]
    [entry] = storage.describe().quarantined
    assert entry.path == "c.csv"
    assert "invalid value '1.5'" in entry.reason
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP])
    assert table["timestamp"].to_pylist() == [1577836800, 1577923200]


def test_payload_columns_are_kept_in_the_order_asked_for(storage: StorageServer, folder: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [2], "c": [3], "y": [4]}), folder / "a.parquet")
    source = {"format": "parquet", "columns": ["c", "y", "a"], "label": "y"}
    found = ingest_one(storage, folder, source)
    assert list(found)[:3] == ["c", "y", "a"]
    assert [found[name] for name in ("c", "y", "a", "label")] == [[3], [4], [1], [4]]
    assert storage.describe().payload[0].name == "c"


def test_columns_named_like_ours_stay_payload(storage: StorageServer, folder: Path) -> None:
    pq.write_table(pa.table({"key": [5], "label": [6], "timestamp": [7]}), folder / "a.parquet")
    settle(folder / "a.parquet", 123)
    storage.register({"format": "parquet", "path": str(folder)})
    storage.ingest()
    [batch] = read_samples(storage.stub, NAME, KeySet.from_array([0]), batch_size=1)
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {
        "key": [5],
        "label": [6],
        "timestamp": [7],
    }
    assert (batch.keys.tolist(), batch.labels.to_pylist(), batch.timestamps.tolist()) == ([0], [None], [123])


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("order", ["little", "big"])
def test_binary_fields_of_any_width(storage: StorageServer, folder: Path, size: int, order: Any) -> None:
    largest = 2 ** (8 * size - 1) - 1
    values = [(largest, -largest), (1, 0), (0, largest)]
    (folder / "a.bin").write_bytes(
        b"".join(y.to_bytes(size, order) + t.to_bytes(size, order, signed=True) + b"pp" for y, t in values)
    )
    source = {"format": "binary", "record_size": 2 * size + 2, "label_size": size, "timestamp_size": size}
    found = ingest_one(storage, folder, {**source, "byteorder": order})
    assert found == {"payload": [b"pp"] * 3, "label": [largest, 1, 0], "timestamp": [-largest, 0, largest]}


def test_unlabelled_binary_records(storage: StorageServer, folder: Path) -> None:
    (folder / "a.rec").write_bytes(b"abcdef")
    settle(folder / "a.rec", 9)
    found = ingest_one(storage, folder, {"format": "binary", "record_size": 3, "file_extension": ".rec"})
    assert found == {"payload": [b"abc", b"def"], "label": [None, None], "timestamp": [9, 9]}


def test_single_files_of_nested_folders(storage: StorageServer, folder: Path) -> None:
    (folder / "day").mkdir()
    for index, name in enumerate(["day/b.tar.png", "a.png", "c.PNG"]):
        settle_path = folder / name
        settle_path.write_bytes(name.encode())
        settle(settle_path, 100 + index)
    (folder / "a.txt").write_text(" 12\n")
    found = ingest_one(storage, folder, {"format": "files", "file_extension": "png", "label_file_extension": "txt"})
    assert found == {"payload": [b"day/b.tar.png", b"a.png"], "label": [None, 12], "timestamp": [100, 101]}


@pytest.mark.parametrize("text", ["1.5", "cat", "1 2", "9" * 30, "\xff"])
def test_label_files_that_hold_no_number(storage: StorageServer, folder: Path, text: str) -> None:
    (folder / "a.png").write_bytes(b"x")
    (folder / "a.label").write_bytes(text.encode("latin-1"))
    source = {"format": "files", "file_extension": ".png", "label_file_extension": ".label"}
    storage.register({"path": str(folder), "settle_seconds": 0, **source})
    assert storage.ingest().quarantined == 1
    assert "label file 'a.label' holds" in storage.describe().quarantined[0].reason


def test_every_format_describes_all_its_keys() -> None:
    for name in FORMATS.names():
        format_class = FORMATS.get(name)
        assert format_class.__doc__
        for key, field in format_class.model_fields.items():
            assert field.description, f"{name}.{key}"
