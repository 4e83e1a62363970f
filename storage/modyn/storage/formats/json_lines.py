"""JSON Lines files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyarrow import json
from pydantic import Field

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, FileSamples
from modyn.storage.formats.columnar import PIECE_BYTES, ColumnarFormat, decoding
from modyn.storage.formats.compressed import ENDINGS, opened
from modyn.storage.formats.single_files import MAX_SAMPLE_BYTES
from modyn.storage.formats.types import TYPES_HELP, ColumnTypes, column_types


@FORMATS.register("jsonl")
class JsonLinesFormat(ColumnarFormat):
    """Text files with one JSON object, which is one sample, a line; gzip and zstd are decompressed.

    A column's type is taken from ``types``, else from the dataset's first file, where it is inferred. A key that an
    object leaves out is null. Lists and objects become Arrow lists and structs.
    """

    default_pattern: ClassVar[str] = "**/*.{jsonl,ndjson}" + ENDINGS

    types: ColumnTypes = Field({}, description=TYPES_HELP)

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        types = column_types(expected, self.types)
        line = 1
        with decoding("JSON Lines"), opened(path) as file:
            for block in _blocks(file):
                if not block.strip():
                    line += block.count(b"\n")
                    continue
                batch = _parse(block, types, line)
                line += block.count(b"\n")
                # What one block tells about types holds for the next, as between files.
                types |= {field.name: field.type for field in batch.schema if not pa.types.is_null(field.type)}
                yield self.samples(batch, self.column_roles(batch.schema.names))


def _parse(block: bytes, types: dict[str, pa.DataType], first_line: int) -> pa.RecordBatch:
    try:
        table = json.read_json(
            pa.BufferReader(block),
            read_options=json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=json.ParseOptions(explicit_schema=pa.schema(list(types.items())) if types else None),
        )
    except pa.ArrowInvalid as error:
        reason = re.sub(r"^JSON parse error: ", "", str(error))
        found = re.search(r" in row (\d+)$", reason)
        if found is None:
            raise
        number = _line_of_row(block, int(found[1]))
        text = f"line {first_line + number} is no JSON object as expected: {reason[: found.start()]}"
        raise CorruptDataError(text) from error
    return table.combine_chunks().to_batches()[0]


def _line_of_row(block: bytes, row: int) -> int:
    """Number of the line, from 0, that holds a row; blank lines hold none."""
    filled = [number for number, line in enumerate(block.split(b"\n")) if line.strip()]
    return filled[min(row, len(filled) - 1)]


def _blocks(file: pa.NativeFile) -> Iterator[bytes]:
    """Whole lines, about :data:`PIECE_BYTES` at a time."""
    rest = b""
    while data := file.read(PIECE_BYTES):
        block = rest + data
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if len(rest) > MAX_SAMPLE_BYTES:
            raise CorruptDataError(f"has a line of more than {MAX_SAMPLE_BYTES} bytes, the most a sample may have")
        if end:
            yield block[:end]
    if rest:
        yield rest
