"""Tables in files: read for ``datasets append`` and ``set-labels``, and written for folders that are watched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from modyn.core.errors import InvalidInputError
from modyn.core.files import atomic_path

TABLES = (".parquet", ".arrow", ".feather", ".ipc")
TEXTS = (".csv", ".jsonl", ".ndjson")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
"""Behind the suffix of a text file."""


@dataclass(frozen=True)
class TableFile:
    """A file's rows.

    Attributes:
        num_rows: of all batches.
        batches: of one schema, at least one.
    """

    num_rows: int
    batches: Iterable[pa.RecordBatch]


@contextmanager
def open_table(path: Path) -> Iterator[TableFile]:
    """The rows of a Parquet, Arrow IPC (Feather), CSV or JSON Lines file, chosen by its suffix.

    Parquet and uncompressed Arrow files are read while their batches are taken, so they may be larger than memory.

    Raises:
        InvalidInputError: the file is missing, of another kind or cannot be read; also while batches are taken.
    """
    suffix, compression = _kind(path)
    with _explained(path):
        if suffix == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path) as file:
                yield TableFile(file.metadata.num_rows, _some(file.iter_batches(), file.schema_arrow))
            return
        if suffix in TABLES:
            with pa.memory_map(str(path)) as source:
                yield _arrow(source)
            return
        yield _whole(_read_text(path, suffix, compression))


def read_table(path: Path) -> pa.Table:
    """All rows of a file, see :func:`open_table`."""
    with open_table(path) as file:
        return pa.Table.from_batches(list(file.batches))


def _kind(path: Path) -> tuple[str, str | None]:
    suffixes = [suffix.lower() for suffix in path.suffixes] or [""]
    compression = COMPRESSIONS.get(suffixes[-1])
    suffix = suffixes[-2] if compression and len(suffixes) > 1 else suffixes[-1]
    if suffix in TEXTS or (suffix in TABLES and compression is None):
        return suffix, compression
    raise InvalidInputError(
        f"{path}: unknown kind of file; expected one of {', '.join(TABLES)}, or {', '.join(TEXTS)} "
        f"(also with {', '.join(COMPRESSIONS)} behind it)"
    )


def _arrow(source: pa.NativeFile) -> TableFile:
    """An IPC file, such as Feather is, or an IPC stream."""
    start = source.read(6)
    source.seek(0)
    if start == b"ARROW1":
        reader = pa.ipc.open_file(source)
        batches = map(reader.get_batch, range(reader.num_record_batches))
        return TableFile(reader.count_rows(), _some(batches, reader.schema))
    return _whole(pa.ipc.open_stream(source).read_all())


def _whole(table: pa.Table) -> TableFile:
    return TableFile(table.num_rows, _some(iter(table.to_batches()), table.schema))


def _read_text(path: Path, suffix: str, compression: str | None) -> pa.Table:
    with pa.input_stream(str(path), compression=compression) as stream:
        if suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(stream)
        from pyarrow import json

        return json.read_json(stream)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise InvalidInputError(f"{path}: the file cannot be decoded: {error}") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot read the file: {error.strerror or error}") from error


def _some(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches; an empty one if there are none, as columns are checked all the same."""
    nothing = True
    for batch in batches:
        nothing = False
        yield batch
    if nothing:
        yield pa.RecordBatch.from_pylist([], schema=schema)


def write_parquet(path: Path, table: pa.Table) -> bool:
    """Renames a complete Parquet file into place, so that a watcher never sees half of one.

    Returns:
        False if the file held this table already; it is then left alone, for a changed file counts as new data.
    """
    from pyarrow import parquet

    if path.exists() and parquet.read_table(path).equals(table):
        return False
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)
    return True


def file_digest(path: Path) -> str:
    """Digest of the file's bytes, to name the batch it is."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot read the file: {error.strerror}") from error
