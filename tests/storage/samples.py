"""Samples whose every part follows from their number, and how each file format writes them."""

from __future__ import annotations

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """The keys of ``data.source`` but for ``path``."""

    @abstractmethod
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        """Writes samples into one or several files and answers those that hold them."""

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


class CsvCase(ColumnCase):
    def write(self, folder: Path, name: str, numbers: Sequence[int]) -> list[Path]:
        path = folder / f"{name}.csv"
        table = self.table(numbers)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.schema.names)
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
        return [path]


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


CASES: dict[str, FormatCase] = {
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
        subfolder = folder / f"part{index % 2}"
        subfolder.mkdir(exist_ok=True)
        for path in case.write(subfolder, f"f{index}", part.tolist()):
            if not case.file_time_only:
                os.utime(path, (START,) * 2)
