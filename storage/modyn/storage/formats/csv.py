"""CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyarrow import csv
from pydantic import Field

from modyn.core.plugins.formats import FORMATS, FileSamples
from modyn.storage.formats.columnar import ColumnarFormat, decoding
from modyn.storage.formats.compressed import ENDINGS, compression_of, opened
from modyn.storage.formats.types import TYPES_HELP, ColumnTypes, column_types

MAX_BLOCK_BYTES = 64 << 20
"""A file up to this size, decompressed, is one piece, so that all its rows decide about a column's type."""


@FORMATS.register("csv")
class CsvFormat(ColumnarFormat):
    """Text files with separated values, one sample a line; gzip and zstd are decompressed.

    A column's type is taken from ``types``, else from the dataset's first file, where it is inferred.
    """

    default_pattern: ClassVar[str] = "**/*.csv" + ENDINGS
    renamed_keys: ClassVar[Mapping[str, str]] = {"quote_char": "quote", "label_index": "label"}

    separator: str = Field(",", min_length=1, max_length=1, description="Character between values.")
    quote: str | None = Field('"', min_length=1, max_length=1, description="Quoting character; null for none.")
    header: bool = Field(True, description="Whether the first line names the columns; otherwise they are f0, f1, ….")
    quoted_linebreaks: bool = Field(False, description="Whether quoted values may contain line breaks.")
    types: ColumnTypes = Field({}, description=TYPES_HELP)

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        size = path.stat().st_size if compression_of(path) is None else MAX_BLOCK_BYTES
        with (
            decoding("CSV"),
            opened(path) as file,
            csv.open_csv(
                file,
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
                convert_options=csv.ConvertOptions(column_types=column_types(expected, self.types)),
            ) as reader,
        ):
            roles = self.column_roles(reader.schema.names)
            for batch in reader:
                yield self.samples(batch, roles)
