"""Tables in files: read for ``datasets append``, and written for folders that are watched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa

from modyn.core.errors import InvalidInputError
from modyn.core.files import atomic_path

SUFFIXES = (".parquet", ".arrow", ".feather", ".ipc", ".csv")


def read_table(path: Path) -> pa.Table:
    """A table from a Parquet, Arrow IPC (Feather) or CSV file, chosen by its suffix.

    Raises:
        InvalidInputError: the file is missing, of another kind or cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInputError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            from pyarrow import parquet

            return parquet.read_table(path)
        if suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(path)
        from pyarrow import feather

        return feather.read_table(path)
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot read the file: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise InvalidInputError(f"{path}: the file cannot be decoded: {error}") from error


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
