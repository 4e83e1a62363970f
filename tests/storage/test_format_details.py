"""What single formats do beyond the common contract."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.storage.formats import json_lines
from tests.storage.reading import Samples, read_samples


def source_of(name: str, folder: Path, **keys: Any) -> SourceFormat:
    return FORMATS.parse({"format": name, "path": str(folder), **keys})


def rows_of(samples: Samples) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = samples.payload.to_pylist()
    return rows


# ---------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_csv_types_hold_for_compressed_files_too(ending: str, folder: Path) -> None:
    data = b"zip,price\n01234,1\n99999,2.5\n"
    path = folder / f"a.csv{ending}"
    path.write_bytes(gzip.compress(data[:10]) + gzip.compress(data[10:]) if ending else data)
    source = source_of("csv", folder, types={"zip": "string"})
    assert rows_of(read_samples(source, path)) == [{"zip": "01234", "price": 1.0}, {"zip": "99999", "price": 2.5}]


def jsonl(folder: Path, text: str) -> Path:
    path = folder / "a.jsonl"
    path.write_text(text)
    return path


def test_json_lines_hold_lists_and_objects(folder: Path) -> None:
    path = jsonl(folder, '{"a": [1, 2], "b": {"c": ["x"]}}\n\n{"b": {"c": []}, "a": null}')
    assert rows_of(read_samples(source_of("jsonl", folder), path)) == [
        {"a": [1, 2], "b": {"c": ["x"]}},
        {"a": None, "b": {"c": []}},
    ]


def test_json_types_are_those_of_the_dataset_or_configured(folder: Path) -> None:
    path = jsonl(folder, '{"a": 1, "b": "2024-01-01"}\n')
    expected = pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.list_(pa.int64()))])
    found = read_samples(source_of("jsonl", folder), path, expected)
    assert found.payload.schema == expected
    source = source_of("jsonl", folder, types={"a": "float32", "label": "int64"}, label="label")
    assert read_samples(source, path).payload.schema.field("a").type == pa.float32()
    assert read_samples(source, path).labels == [None]  # configured, so it may be left out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{"a": 2}\nnonsense\n', "line 4 is no JSON object"),
        ('{"a": 1}\n[1]\n', "line 2 is no JSON object"),
        ('{"a": 1}\n{"a": "x"}\n', "line 2 .*changed from number to string"),
        ('{"a": 1}\n{"a": 2', "line 2 is no JSON object"),
        ('{"a": 1, "a": 2}\n', "twice"),
    ],
)
@pytest.mark.parametrize("block", [8, 1 << 20])
def test_json_complaints_name_the_line(
    text: str, message: str, block: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "PIECE_BYTES", block)
    with pytest.raises(CorruptDataError, match=message):
        read_samples(source_of("jsonl", folder), jsonl(folder, text))


def test_json_lines_across_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"n": number, "text": "x" * (number % 50)} for number in range(500)]
    path = jsonl(folder, "\n".join(str(row).replace("'", '"') for row in rows))
    for block in (7, 100, 4096):
        monkeypatch.setattr(json_lines, "PIECE_BYTES", block)
        assert rows_of(read_samples(source_of("jsonl", folder), path)) == rows


def test_a_file_of_blank_lines_holds_no_samples(folder: Path) -> None:
    assert len(read_samples(source_of("jsonl", folder), jsonl(folder, "\n \n\n"))) == 0


# ---------------------------------------------------------------------------------------------- WebDataset


def write_tar(folder: Path, members: list[tuple[str, bytes]]) -> Path:
    path = folder / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def test_webdataset_samples(folder: Path) -> None:
    path = write_tar(
        folder,
        [
            ("__meta__/x.json", b"{}"),
            ("train/0001.JPG", b"one"),
            ("train/0001.seg.png", b"two"),
            ("train/0001.cls", b" 7\n"),
            ("train/._0001.jpg", b"finder"),
            ("README", b"about"),
            ("train/" + "long" * 50 + ".jpg", b"three"),
            ("train/" + "long" * 50 + ".seg.png", b""),
        ],
    )
    found = read_samples(source_of("webdataset", folder, label="cls", key="__key__"), path)
    assert rows_of(found) == [
        {"jpg": b"one", "seg.png": b"two", "__key__": "train/0001"},
        {"jpg": b"three", "seg.png": b"", "__key__": "train/" + "long" * 50},
    ]
    assert found.labels == [7, None]
    only = read_samples(source_of("webdataset", folder, columns=["seg.png"]), path)
    assert rows_of(only) == [{"seg.png": b"two"}, {"seg.png": b""}]


def test_labels_and_times_in_json_members(folder: Path) -> None:
    texts = [b'{"y": [1, 2], "t": "2024-01-01T00:00:00.5Z"}', b'{"t": 1704067200}', b'{"y": null, "t": "2024-01-01"}']
    path = write_tar(folder, [(f"{number}.meta.json", text) for number, text in enumerate(texts)])
    source = source_of("webdataset", folder, label="meta.json.y", timestamp="meta.json.t")
    found = read_samples(source, path)
    assert found.labels == [[1, 2], None, None]
    assert found.times == [1704067200] * 3
    assert rows_of(found) == [{"meta.json": text} for text in texts]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b""), ("a.jpg", b"")], "sample 'a' has two members 'jpg'"),
        ([("a.jpg", b""), ("b.png", b"")], "sample 'b' has no member 'jpg'; it has png"),
        ([("a.jpg", b""), ("b.jpg", b""), ("b.txt", b"")], "'txt', which the first sample has not"),
        ([("a.jpg", b""), ("a.cls", b"cat")], "member 'cls' of sample 'a' is 'cat'; expected a whole number"),
        ([("a.cls", b"1")], "no payload"),
        ([("a.jpg", b""), ("a.cls", b"9" * 30)], "a label is no number"),
    ],
)
def test_broken_webdataset_samples(members: list[tuple[str, bytes]], message: str, folder: Path) -> None:
    with pytest.raises(CorruptDataError, match=message):
        read_samples(source_of("webdataset", folder, label="cls"), write_tar(folder, members))


def test_a_damaged_header_is_not_the_end(folder: Path) -> None:
    path = write_tar(folder, [(f"{number}.jpg", b"x" * 600) for number in range(3)])
    content = bytearray(path.read_bytes())
    content[3 * 512 + 5] ^= 1  # in the second header
    path.write_bytes(content)
    with pytest.raises(CorruptDataError, match="damaged, at byte 1536"):
        read_samples(source_of("webdataset", folder), path)


def test_something_else_named_tar(folder: Path) -> None:
    (folder / "a.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(CorruptDataError, match="no tar archive"):
        read_samples(source_of("webdataset", folder), folder / "a.tar")


# ---------------------------------------------------------------------------------------------- class folders


def test_classes_are_numbered_as_listed(folder: Path) -> None:
    source = source_of("class_folders", folder, classes=["dog", "cat"])
    for name in ("cat", "dog", "cow"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "a.png").write_bytes(name.encode())
    assert read_samples(source, folder / "cat" / "deep" / "a.png").labels == [1]
    assert read_samples(source, folder / "dog" / "deep" / "a.png").labels == [0]
    with pytest.raises(CorruptDataError, match="class folder 'cow' is not among `classes`: dog, cat"):
        read_samples(source, folder / "cow" / "deep" / "a.png")
    with pytest.raises(CorruptDataError, match=r"'cow' is no whole number; .*classes: \[cat, cow, dog\]"):
        read_samples(source_of("class_folders", folder), folder / "cow" / "deep" / "a.png")


def test_numbered_class_folders_are_their_labels(folder: Path) -> None:
    (folder / "007").mkdir()
    (folder / "007" / "a").write_bytes(b"x")
    (folder / "b").write_bytes(b"x")
    assert read_samples(source_of("class_folders", folder), folder / "007" / "a").labels == [7]
    with pytest.raises(CorruptDataError, match="lies in no class folder"):
        read_samples(source_of("class_folders", folder), folder / "b")


@pytest.mark.parametrize("classes", [["a", "a"], ["a/b"], []])
def test_classes_are_distinct_names(classes: list[str], folder: Path) -> None:
    with pytest.raises(ValidationError):
        source_of("class_folders", folder, classes=classes)


# ---------------------------------------------------------------------------------------------- NumPy


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, "differ in their number of rows \\(a: 3, b: 4\\)"),
        ({"a": np.array(3)}, "'a' is a single value"),
        ({"a": np.array([{}, None])}, "Python objects, which are never loaded"),
        ({"a": np.zeros(3, complex)}, "array 'a' of complex128 cannot be a column"),
        ({"a": np.zeros((3, 0))}, "rows without values"),
        ({"a": np.zeros(3, [("x", "i4")])}, "array 'a' is structured"),
        ({"y": np.zeros(3)}, "there is no payload array"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_arrays_that_are_no_samples(arrays: dict[str, Any], message: str, folder: Path) -> None:
    np.savez(folder / "a.npz", **arrays, allow_pickle=True)
    source = source_of("numpy", folder, label="y") if "y" in arrays else source_of("numpy", folder)
    with pytest.raises(CorruptDataError, match=message):
        read_samples(source, folder / "a.npz")


def test_an_npy_file_holds_one_array(folder: Path) -> None:
    with (folder / "a.npy").open("wb") as file:
        np.save(file, np.zeros(3))
        np.save(file, np.zeros(3))
    with pytest.raises(CorruptDataError, match="has 304 bytes; expected 152"):
        read_samples(source_of("numpy", folder), folder / "a.npy")


# ---------------------------------------------------------------------------------------------- Delta Lake


def table_of(start: int, stop: int) -> pa.Table:
    days = [f"2024-01-0{number % 2 + 1} x" for number in range(start, stop)]
    return pa.table({"id": range(start, stop), "day": days, "time": range(start, stop)})


def ids(source: SourceFormat, folder: Path) -> dict[Path, list[int]]:
    found: dict[Path, list[int]] = {}
    for path in source.list_files(folder) or ():
        samples = read_samples(source, path)
        assert samples.times is not None
        assert samples.times == samples.payload["id"].to_pylist()
        assert set(samples.payload["day"].to_pylist()) <= {f"2024-01-0{number % 2 + 1} x" for number in samples.times}
        found[path] = samples.times
    return found


def test_a_delta_table_is_its_current_version(folder: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    source = source_of("delta", folder, timestamp="time")
    deltalake.write_deltalake(str(folder), table_of(0, 10), partition_by=["day"])
    first = ids(source, folder)
    assert sorted(first.values()) == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    deltalake.write_deltalake(str(folder), table_of(10, 12), mode="append")
    second = ids(source, folder)
    assert first.items() < second.items()
    deltalake.DeltaTable(str(folder)).delete("id = 3")
    third = ids(source, folder)
    assert sorted(number for numbers in third.values() for number in numbers) == [0, 1, 2, *range(4, 12)]
    gone = next(path for path in second if path not in third)
    assert gone.exists()
    with pytest.raises(FileNotFoundError):
        read_samples(source, gone)


def test_a_folder_without_a_delta_table(folder: Path) -> None:
    pytest.importorskip("deltalake")
    with pytest.raises(InvalidInputError, match="is no Delta table"):
        source_of("delta", folder).list_files(folder)


def test_a_delta_table_is_local(folder: Path) -> None:
    with pytest.raises(ValidationError, match="has to lie in a local folder"):
        FORMATS.parse({"format": "delta", "path": "s3://bucket/table"})


def test_without_the_library_the_remedy_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'modyn\[delta\]'"):
        source_of("delta", folder).list_files(folder)
