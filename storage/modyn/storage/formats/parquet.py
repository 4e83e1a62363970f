"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from modyn.core.plugins.formats import FORMATS, FileSamples
from modyn.storage.formats.columnar import PIECE_BYTES, ColumnarFormat, decoding

MAX_PIECE_ROWS = 1 << 16


@FORMATS.register("parquet")
class ParquetFormat(ColumnarFormat):
    """Parquet files, one sample a row; column types are those of the files."""

    default_pattern: ClassVar[str] = "**/*.parquet"

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        with decoding("Parquet"), pq.ParquetFile(path) as file:
            roles = self.column_roles(file.schema_arrow.names)
            rows = file.metadata.num_rows
            stored = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
            step = max(1, min(MAX_PIECE_ROWS, int(PIECE_BYTES // max(1.0, stored / max(1, rows)))))
            for batch in file.iter_batches(batch_size=step, columns=roles.all, use_threads=False):
                yield self.samples(batch, roles)
