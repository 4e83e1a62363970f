"""Which files are read in place, and that their layouts mean what reading gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, ArrowLayout, RecordLayout, SourceFormat, WholeFileLayout
from modyn.storage.formats.arrow_ipc import MIN_BATCH_BYTES
from modyn.storage.formats.records import CHUNK_BYTES, SPARSE_BYTES, FieldPlace, read_field
from modyn.storage.parts import RecordsPart, map_file
from tests.storage.reading import in_place_samples, read_samples


def source_of(name: str, folder: Path, **keys: Any) -> SourceFormat:
    return FORMATS.parse({"format": name, "path": str(folder), **keys})


def same_in_place(source: SourceFormat, path: Path) -> None:
    found = in_place_samples(source, path)
    assert found is not None
    assert found == read_samples(source, path)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize(("label_size", "timestamp_size"), [(0, 0), (1, 0), (3, 5), (4, 8), (8, 4), (0, 7)])
@pytest.mark.parametrize("record_size", [17, 160, SPARSE_BYTES + 1])
def test_binary_records(byteorder: str, label_size: int, timestamp_size: int, record_size: int, folder: Path) -> None:
    random = np.random.default_rng(label_size + timestamp_size)
    records = random.integers(0, 256, (300, record_size), dtype=np.uint8)
    if label_size == 8:
        records[:, [0, 7]] &= 0x7F
    path = folder / "a.bin"
    records.tofile(path)
    source = source_of(
        "binary",
        folder,
        record_size=record_size,
        label_size=label_size,
        timestamp_size=timestamp_size,
        byteorder=byteorder,
    )
    same_in_place(source, path)
    found = in_place_samples(source, path)
    assert found is not None
    rows = [row.tobytes() for row in records]
    if label_size:
        assert found.labels == [int.from_bytes(row[:label_size], byteorder) for row in rows]  # type: ignore[arg-type]
    if timestamp_size:
        times = [row[label_size : label_size + timestamp_size] for row in rows]
        assert found.times == [int.from_bytes(time, byteorder, signed=True) for time in times]  # type: ignore[arg-type]
    assert found.payload["payload"].to_pylist() == [row[label_size + timestamp_size :] for row in rows]


@pytest.mark.parametrize("stride", [5, 4_096, SPARSE_BYTES, CHUNK_BYTES // 3])
def test_fields_are_read_across_chunks(stride: int, folder: Path) -> None:
    rows = 2 * CHUNK_BYTES // stride + 3
    content = np.random.default_rng(1).integers(0, 256, (rows, stride), dtype=np.uint8)
    path = folder / "records"
    path.write_bytes(
        content.tobytes()[: -(stride - 5)] if stride > 5 else content.tobytes()
    )  # ends with the last field
    assert np.array_equal(read_field(path, FieldPlace(rows, 2, 3, stride)), content[:, 2:5])
    with pytest.raises(CorruptDataError, match="became shorter"):
        read_field(path, FieldPlace(rows + 1, 2, 3, stride))


ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "numbers": np.arange(50, dtype=np.int16),
    "half": np.arange(50, dtype=np.float16),
    "images": np.arange(50 * 12, dtype=np.float32).reshape(50, 2, 3, 2),
    "opaque": np.arange(50 * 24, dtype=np.uint8).view("V24"),
    "empty": np.zeros((0, 7), dtype=np.float64),
    "records": np.array(
        [(i, -i, (i, i + 1), bytes([i]) * 5) for i in range(50)],
        dtype=[("x", "u1"), ("label", "i8"), ("pair", "f4", (2,)), ("raw", "V5")],
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_npy(name: str, folder: Path) -> None:
    path = folder / "a.npy"
    np.save(path, ARRAYS[name])
    source = source_of("numpy", folder, **({"label": "label"} if name == "records" else {}))
    if name == "empty":
        assert len(read_samples(source, path)) == 0
        found = source.in_place(path)
        assert found is not None
        assert found.num_rows == 0
        return
    same_in_place(source, path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(50, dtype=">i4"),
        np.asfortranarray(np.arange(100.0).reshape(50, 2)),
        np.arange(50) % 2 == 0,
        np.array(["text"] * 50),
        np.array([b"bytes\0"] * 50),
        np.arange(50).astype("datetime64[s]"),
    ],
    ids=["big endian", "fortran", "bool", "text", "bytes", "times"],
)
def test_arrays_that_are_stored_otherwise_are_copied(array: np.ndarray[Any, Any], folder: Path) -> None:
    np.save(folder / "a.npy", array)
    source = source_of("numpy", folder)
    assert source.in_place(folder / "a.npy") is None
    found = read_samples(source, folder / "a.npy").payload["x"].to_pylist()
    assert found == array.tolist() or found == [time.item().replace(tzinfo=None) for time in array]


def test_npz_members_are_found_in_the_archive(folder: Path) -> None:
    columns: dict[str, Any] = {
        "a": ARRAYS["images"],
        "b": ARRAYS["numbers"],
        "y": np.arange(50),
        "t": np.arange(50) + 0.5,
    }
    np.savez(folder / "stored.npz", **columns)
    np.savez_compressed(folder / "deflated.npz", **columns)
    source = source_of("numpy", folder, label="y", timestamp="t")
    same_in_place(source, folder / "stored.npz")
    assert source.in_place(folder / "deflated.npz") is None
    assert read_samples(source, folder / "deflated.npz") == read_samples(source, folder / "stored.npz")


def test_records_are_what_a_part_gives(folder: Path) -> None:
    path = folder / "a.npy"
    np.save(path, ARRAYS["records"])
    found = source_of("numpy", folder, arrays=["pair", "x"]).in_place(path)
    assert found is not None
    assert isinstance(found.layout, RecordLayout)
    stat = path.stat()
    part = RecordsPart(found.layout, map_file(path, stat.st_size, stat.st_mtime_ns))
    pair: Any = part.column("pair")
    assert np.array_equal(np.ascontiguousarray(pair.values).view("f4"), ARRAYS["records"]["pair"])


TABLE = pa.table(
    {
        "id": range(100),
        "text": [None if n % 7 == 0 else f"sample {n}" for n in range(100)],
        "nested": [[{"a": n, "b": [1.5] * (n % 3)}] for n in range(100)],
        "flag": [n % 2 == 0 for n in range(100)],
        "label": [None if n % 3 == 0 else n for n in range(100)],
        "time": pa.array(range(100), pa.timestamp("ms")),
    }
)


def write_arrow(path: Path, table: pa.Table, compression: str | None = None, chunk: int | None = None) -> Path:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return path


def test_arrow_files(folder: Path) -> None:
    source = source_of("arrow", folder, label="label", timestamp="time", drop=["flag"])
    same_in_place(source, write_arrow(folder / "one.arrow", TABLE))
    found = source.in_place(folder / "one.arrow")
    assert found is not None
    assert found.layout == ArrowLayout(("id", "text", "nested"))
    large = pa.concat_tables([TABLE] * (4 * MIN_BATCH_BYTES // 1_000)).combine_chunks()
    same_in_place(source, write_arrow(folder / "some.arrow", large, chunk=large.num_rows // 3))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_arrow_files_are_copied(compression: str, folder: Path) -> None:
    path = write_arrow(folder / "a.arrow", TABLE, compression)
    assert source_of("arrow", folder).in_place(path) is None


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"], pa.string_view()),
        pa.array([[1], [2]], pa.list_view(pa.int64())),
        pa.nulls(2),
        pa.RunEndEncodedArray.from_arrays([2], [1]),
        pa.array([["a"], ["b"]], pa.list_(pa.string_view())),
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int32(), [2]), pa.array([[1, 2]] * 2, pa.list_(pa.int32(), 2))
        ),
    ],
    ids=lambda column: str(column.type)[:20],
)
def test_arrow_columns_that_are_stored_otherwise_are_copied(column: pa.Array, folder: Path) -> None:
    path = write_arrow(folder / "a.arrow", pa.table({"x": column, "y": [1, 2]}))
    source = source_of("arrow", folder)
    assert source.in_place(path) is None
    assert len(read_samples(source, path)) == 2


def test_streams_and_tiny_batches_are_copied(folder: Path) -> None:
    source = source_of("arrow", folder)
    assert source.in_place(write_arrow(folder / "tiny.arrow", TABLE, chunk=5)) is None
    with pa.ipc.new_stream(folder / "stream.arrow", TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert source.in_place(folder / "stream.arrow") is None


@pytest.mark.parametrize("how", ["read", "in_place"])
def test_arrow_offsets_are_not_trusted(how: str, folder: Path) -> None:
    offsets = np.array([0, 3, 1_000_000, 9], dtype=np.int32)
    bad = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(b"abcdefghi")])
    path = write_arrow(folder / "a.arrow", pa.table({"x": bad}))
    source = source_of("arrow", folder)
    with pytest.raises(CorruptDataError, match="cannot be read as Arrow IPC"):
        read_samples(source, path) if how == "read" else source.in_place(path)


def test_single_files_stay_where_they_are_if_asked(folder: Path) -> None:
    (folder / "a.dat").write_bytes(b"payload")
    (folder / "a.txt").write_text("7")
    keys = {"file_extension": "dat", "label_file_extension": "txt"}
    assert source_of("files", folder, **keys).in_place(folder / "a.dat") is None
    source = source_of("files", folder, pack=False, **keys)
    same_in_place(source, folder / "a.dat")
    found = source.in_place(folder / "a.dat")
    assert found is not None
    assert found.layout == WholeFileLayout()
