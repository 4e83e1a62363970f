"""Samples whose every part follows from their number, and how each file format writes them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

START = 1_500_000_000


def timestamp_of(number: int) -> int:
    """Scattered over files, with ties."""
    return START + (number * 7919) % 5_000 // 3


def label_of(number: int, *, always: bool = False) -> int | None:
    return None if number % 4 == 0 and not always else (number * 31) % 10


def payload_of(number: int) -> bytes:
    """24 bytes that start with the number."""
    return number.to_bytes(8, "little") + (number * 2654435761 % 2**64).to_bytes(8, "big") + b"payload."


class FormatCase(ABC):
    """How one format writes numbered samples, and how they are recognised again."""

    always_labelled = False
    file_time_only = False
    """Event time is the file's, so a file holds samples of one time."""
    flat = False
    """Files lie where the format says, not in any subfolder."""
    listed = False
    """The format keeps a list of its files; others beside them are none of its."""

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """The keys of ``data.source`` but for ``path``."""

    @abstractmethod
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Writes samples into one or several files and answers those that hold them."""

    def spoil(self, path: Path) -> None:
        """Makes a file unreadable; writing its old content makes it readable again."""
        path.write_bytes(path.read_bytes()[:-5])

    def numbers(self, columns: Mapping[str, pa.Array]) -> list[int]:
        """The numbers of payload rows; fails if the columns of a row do not belong together."""
        payloads = columns["payload"].to_pylist()
        found = [int.from_bytes(payload[:8], "little") for payload in payloads]
        assert payloads == [payload_of(number) for number in found]
        return found


class ColumnCase(FormatCase):
    """Formats with named columns."""

    def source(self) -> dict[str, Any]:
        return {"timestamp": "time", "label": "label", "drop": ["unused"]}

    def table(self, numbers: Sequence[int]) -> pa.Table:
        return pa.table(
            {
                "id": pa.array(numbers, pa.int64()),
                "time": pa.array([timestamp_of(n) for n in numbers], pa.int64()),
                "half": pa.array([n / 2 for n in numbers], pa.float64()),
                "label": pa.array([label_of(n) for n in numbers], pa.int64()),
                "text": pa.array([f"sample {n}" for n in numbers], pa.string()),
                "unused": pa.array([0] * len(numbers), pa.int64()),
            }
        )

    def numbers(self, columns: Mapping[str, pa.Array]) -> list[int]:
        assert list(columns) == ["id", "half", "text"]
        found: list[int] = columns["id"].to_pylist()
        assert columns["half"].to_pylist() == [n / 2 for n in found]
        assert columns["text"].to_pylist() == [f"sample {n}" for n in found]
        return found


class ParquetCase(ColumnCase):
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        path = folder / f"{name}.parquet"
        pq.write_table(self.table(numbers), path, row_group_size=7)
        return [path]


class ArrowCase(ColumnCase):
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Files and streams in turn."""
        path = folder / f"{name}.arrow"
        table = self.table(numbers)
        new = pa.ipc.new_file if len(numbers) % 2 else pa.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
        return [path]


def compressed(text: str, name: str) -> tuple[str, bytes]:
    """Plain, gzip or zstd, in turns by name: the end of a file's name, and its content."""
    data = text.encode()
    which = sum(name.encode()) % 3
    if which == 0:
        return "", data
    if which == 1:
        return ".gz", gzip.compress(data)
    return ".zst", bytes(pa.Codec("zstd").compress(data, asbytes=True))


class CsvCase(ColumnCase):
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        table = self.table(numbers)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(table.schema.names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
        ending, data = compressed(text.getvalue(), name)
        path = folder / f"{name}.csv{ending}"
        path.write_bytes(data)
        return [path]

    def spoil(self, path: Path) -> None:
        if path.suffix == ".csv":
            path.write_bytes(path.read_bytes() + b"1,2\n")
        else:
            super().spoil(path)


class JsonLinesCase(ColumnCase):
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Missing labels are null or left out, in turn."""
        rows = self.table(numbers).to_pylist()
        for row in rows:
            if row["label"] is None and row["id"] % 8 == 0:
                del row["label"]
        ending, data = compressed("".join(json.dumps(row) + "\n" for row in rows), name)
        path = folder / f"{name}.jsonl{ending}"
        path.write_bytes(data)
        return [path]


class DeltaCase(ColumnCase):
    flat = True
    listed = True

    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """One version of the table, of one or two data files."""
        deltalake = pytest.importorskip("deltalake")
        before = set(folder.glob("**/*.parquet"))
        deltalake.write_deltalake(str(folder), self.table(numbers), mode="append")
        return sorted(set(folder.glob("**/*.parquet")) - before)


class WebDatasetCase(FormatCase):
    def source(self) -> dict[str, Any]:
        return {"label": "cls", "timestamp": "json.when.time"}

    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Missing labels are a missing or an empty member, in turn; archives are compressed or not."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for number in numbers:
                self._add(archive, number)
        zipped = sum(name.encode()) % 2
        path = folder / f"{name}.tar{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content.getvalue()) if zipped else content.getvalue())
        return [path]

    def _add(self, archive: tarfile.TarFile, number: int) -> None:
        label = label_of(number)
        members = {"bin": payload_of(number), "json": json.dumps({"when": {"time": timestamp_of(number)}}).encode()}
        if label is not None or number % 8 == 0:
            members["cls"] = b"" if label is None else f"{label}\n".encode()
        for extension, data in members.items():
            header = tarfile.TarInfo(f"shard/{number:06d}.{extension}")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))

    def spoil(self, path: Path) -> None:
        """Cut at the end of a member, without the mark that ends the archive."""
        data = path.read_bytes()
        path.write_bytes(
            data[:-5] if path.suffix == ".gz" else data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512)
        )

    def numbers(self, columns: Mapping[str, pa.Array]) -> list[int]:
        assert list(columns) == ["bin", "json"]
        found = super().numbers({"payload": columns["bin"]})
        times = [json.loads(text)["when"]["time"] for text in columns["json"].to_pylist()]
        assert times == [timestamp_of(number) for number in found]
        return found


class NumpyCase(FormatCase):
    def source(self) -> dict[str, Any]:
        return {"label": "label", "timestamp": "time", "arrays": ["payload", "half", "pair"]}

    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Structured arrays in foreign byte order, archives, and compressed archives, in turn."""
        labels = [label_of(number) for number in numbers]
        columns: dict[str, Any] = {
            "pair": np.array([[[number], [-number]] for number in numbers], dtype=np.int32).reshape(-1, 2, 1),
            "label": np.array([np.nan if label is None else label for label in labels], dtype=np.float32),
            "half": np.array([number / 2 for number in numbers]),
            "payload": np.array([np.void(payload_of(number)) for number in numbers], dtype="V24"),
            "time": np.array([timestamp_of(number) for number in numbers], dtype="datetime64[s]"),
        }
        which = sum(name.encode()) % 3
        if which == 0:
            columns["half"] = columns["half"].astype(">f8")
            columns["unused"] = np.zeros(3)
            np.savez(folder / name, **columns)
        elif which == 1:
            columns["pair"] = np.asfortranarray(columns["pair"])
            np.savez_compressed(folder / name, **columns)
        else:
            kinds = [(key, array.dtype, array.shape[1:]) for key, array in columns.items()]
            records = np.empty(len(numbers), dtype=kinds)
            for key, array in columns.items():
                records[key] = array
            np.save(folder / name, records)
        return [folder / f"{name}.{'npy' if which == 2 else 'npz'}"]

    def numbers(self, columns: Mapping[str, pa.Array]) -> list[int]:
        assert list(columns) == ["payload", "half", "pair"]
        found = super().numbers(columns)
        assert columns["half"].to_pylist() == [number / 2 for number in found]
        assert columns["pair"].to_pylist() == [[number, -number] for number in found]
        return found


class BinaryCase(FormatCase):
    always_labelled = True

    def source(self) -> dict[str, Any]:
        return {"record_size": 3 + 8 + 24, "label_size": 3, "timestamp_size": 8, "byteorder": "big"}

    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        path = folder / f"{name}.bin"
        path.write_bytes(
            b"".join(
                (label_of(n, always=True) or 0).to_bytes(3, "big") + timestamp_of(n).to_bytes(8, "big") + payload_of(n)
                for n in numbers
            )
        )
        return [path]


class SingleFilesCase(FormatCase):
    file_time_only = True

    def source(self) -> dict[str, Any]:
        return {"file_extension": ".dat", "label_file_extension": ".label"}

    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Missing labels are a missing or an empty file, in turn."""
        paths = []
        for number in numbers:
            path = folder / f"{name}-{number:05d}.dat"
            path.write_bytes(payload_of(number))
            os.utime(path, (timestamp_of(number),) * 2)
            label = label_of(number)
            if label is not None or number % 8 == 0:
                path.with_suffix(".label").write_text("" if label is None else f"{label}\n")
                os.utime(path.with_suffix(".label"), (START,) * 2)
            paths.append(path)
        return paths

    def spoil(self, path: Path) -> None:
        path.with_suffix(".label").write_text("seven")


class ClassFoldersCase(FormatCase):
    always_labelled = True
    file_time_only = True
    flat = True

    def source(self) -> dict[str, Any]:
        return {"file_extension": "dat"}

    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Folders below those of the classes, too."""
        paths = []
        for number in numbers:
            parent = folder / str(label_of(number, always=True)) / ("deeper" if number % 3 else "")
            parent.mkdir(exist_ok=True, parents=True)
            path = parent / f"{name}-{number:05d}.dat"
            path.write_bytes(payload_of(number))
            os.utime(path, (timestamp_of(number),) * 2)
            paths.append(path)
        return paths

    def spoil(self, path: Path) -> None:
        os.truncate(path, (32 << 20) + 1)


CASES: dict[str, FormatCase] = {
    "class_folders": ClassFoldersCase(),
    "delta": DeltaCase(),
    "jsonl": JsonLinesCase(),
    "numpy": NumpyCase(),
    "webdataset": WebDatasetCase(),
    "parquet": ParquetCase(),
    "arrow": ArrowCase(),
    "csv": CsvCase(),
    "binary": BinaryCase(),
    "files": SingleFilesCase(),
    "SingleSampleFileWrapper": SingleFilesCase(),
}
"""By registered name. A new format needs an entry here, and is then held to the contract."""


def write_stream(case: FormatCase, folder: Path, count: int = 200, files: int = 5) -> None:
    """Samples 0 .. count-1 spread over files in a shuffled order, so that times of files interleave."""
    order = np.random.default_rng(5).permutation(count)
    for index, part in enumerate(np.array_split(order, files)):
        subfolder = folder if case.flat else folder / f"part{index % 2}"
        subfolder.mkdir(exist_ok=True)
        for path in case.write(subfolder, f"f{index}", part.tolist()):
            if not case.file_time_only:
                os.utime(path, (START,) * 2)
