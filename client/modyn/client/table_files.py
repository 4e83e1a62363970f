"""Tables of results as files: Parquet, CSV or JSON, and ``tables.json`` with what their columns mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa

from modyn.client.result_folder import ResultFolder
from modyn.core.versions import REPORT_SCHEMA_VERSION, package_version

TableFormat: TypeAlias = Literal["parquet", "csv", "json"]

FORMATS: tuple[TableFormat, ...] = ("parquet", "csv", "json")

MARKER = "tables.json"
"""Describes the other files of the folder."""


class DataFolder(ResultFolder):
    """A folder of tables.

    Args:
        path: as of :class:`~modyn.client.result_folder.ResultFolder`.
        kind: what the tables are of, such as ``report``.
    """

    def __init__(self, path: Path, kind: str) -> None:
        def is_ours(document: object) -> bool:
            return isinstance(document, dict) and document.get("kind") == kind and "tables" in document

        super().__init__(path, option="--data", marker=MARKER, is_ours=is_ours, kind=f"tables of a {kind}")
        self._tables_of = kind

    def write_tables(self, tables: Mapping[str, pa.Table], file_format: TableFormat) -> None:
        """Writes a file per table; those of earlier results are replaced, in whatever format they are."""
        former = [f"{name}.{known}" for name in tables for known in FORMATS if known != file_format]
        self.write(lambda folder: write_tables(folder, tables, file_format, self._tables_of), replaces=former)


def write_tables(folder: Path, tables: Mapping[str, pa.Table], file_format: TableFormat, kind: str) -> None:
    """A file per table, and :data:`MARKER`.

    Args:
        folder: an existing one.
        tables: by name; their fields have a ``description``.
        file_format: of the files. CSV leaves missing values empty, JSON is an array of objects.
        kind: what the tables are of.
    """
    for name, table in tables.items():
        _write_table(folder / f"{name}.{file_format}", table, file_format)
    document = {
        "kind": kind,
        "schema_version": REPORT_SCHEMA_VERSION,
        "modyn_version": package_version(),
        "format": file_format,
        "tables": {name: _described(table.schema) for name, table in tables.items()},
    }
    (folder / MARKER).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def description_of(metadata: Mapping[bytes, bytes] | None) -> str:
    """What a field or schema says it means."""
    return (metadata or {}).get(b"description", b"").decode()


def _described(schema: pa.Schema) -> dict[str, object]:
    columns = [
        {"name": field.name, "type": str(field.type), "description": description_of(field.metadata)} for field in schema
    ]
    return {"description": description_of(schema.metadata), "columns": columns}


def _write_table(path: Path, table: pa.Table, file_format: TableFormat) -> None:
    if file_format == "parquet":
        from pyarrow import parquet

        parquet.write_table(table, path)
    elif file_format == "csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    else:
        rows = table.to_pylist()
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
