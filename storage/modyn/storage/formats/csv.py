"""CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyarrow import csv
from pydantic import Field, field_validator

from modyn.core.plugins.formats import FORMATS, FileSamples
from modyn.storage.formats.columnar import ColumnarFormat, decoding

MAX_BLOCK_BYTES = 64 << 20
"""A file up to this size is one piece, so that all its rows decide about a column's type."""

TYPE_NAMES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "string",
    "binary", "date32", "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]",
)  # fmt: skip


@FORMATS.register("csv")
class CsvFormat(ColumnarFormat):
    """Text files with separated values, one sample a line.

    A column's type is taken from ``types``, else from the dataset's first file, where it is inferred.
    """

    default_pattern: ClassVar[str] = "**/*.csv"
    renamed_keys: ClassVar[Mapping[str, str]] = {"quote_char": "quote", "label_index": "label"}

    separator: str = Field(",", min_length=1, max_length=1, description="Character between values.")
    quote: str | None = Field('"', min_length=1, max_length=1, description="Quoting character; null for none.")
    header: bool = Field(True, description="Whether the first line names the columns; otherwise they are f0, f1, ….")
    quoted_linebreaks: bool = Field(False, description="Whether quoted values may contain line breaks.")
    types: dict[str, str] = Field({}, description=f"Types of columns by name: {', '.join(TYPE_NAMES)}.")

    @field_validator("types")
    @classmethod
    def _types_exist(cls, value: dict[str, str]) -> dict[str, str]:
        for column, name in value.items():
            if name not in TYPE_NAMES:
                raise ValueError(f"column {column!r}: {name!r} is no type; expected one of {', '.join(TYPE_NAMES)}")
        return value

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        size = path.stat().st_size
        types = {field.name: field.type for field in expected or ()}
        types |= {column: pa.type_for_alias(name) for column, name in self.types.items()}
        with (
            decoding("CSV"),
            csv.open_csv(
                path,
                read_options=csv.ReadOptions(
                    use_threads=False,
                    block_size=max(1, min(size, MAX_BLOCK_BYTES)),
                    autogenerate_column_names=not self.header,
                ),
                parse_options=csv.ParseOptions(
                    delimiter=self.separator,
                    quote_char=self.quote or False,
                    newlines_in_values=self.quoted_linebreaks,
                ),
                convert_options=csv.ConvertOptions(column_types=types),
            ) as reader,
        ):
            roles = self.roles(reader.schema.names)
            for batch in reader:
                yield self.samples(batch, roles)
