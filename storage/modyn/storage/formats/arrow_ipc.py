"""Arrow IPC files and streams (Feather)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from modyn.core.arrow import slices
from modyn.core.plugins.formats import FORMATS, ArrowLayout, FileSamples, InPlaceSamples
from modyn.storage.formats.columnar import PIECE_BYTES, ColumnarFormat, decoding
from modyn.storage.formats.records import joined_times

FILE_MAGIC = b"ARROW1"

MIN_BATCH_BYTES = 64 << 10
"""Batches of a file are on average at least so large, or it is transcoded: reading pays for every batch it touches."""


@FORMATS.register("arrow")
class ArrowFormat(ColumnarFormat):
    """Arrow IPC files or streams (Feather), one sample a row; column types are those of the files.

    Uncompressed files (not streams) of plain columns stay where they are; others are copied.
    """

    default_pattern: ClassVar[str] = "**/*.arrow"

    pack: bool = Field(False, description="Copy the samples at ingest instead of reading them in the files.")

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        # Not memory-mapped: if the owner truncated the file meanwhile, reading the map would kill the process.
        with decoding("Arrow IPC"), pa.OSFile(str(path), "rb") as source:
            for batch in _batches(source, is_file=_is_file(path)):
                batch.validate(full=True)  # offsets beyond the data would be followed blindly later
                roles = self.column_roles(batch.schema.names)
                piece = batch.select(roles.all)
                rows = max(1, int(PIECE_BYTES // max(1.0, piece.nbytes / max(1, piece.num_rows))))
                for part in slices(piece.num_rows, rows):
                    yield self.samples(piece.slice(part.start, part.stop - part.start), roles)

    def in_place(self, path: Path) -> InPlaceSamples | None:
        if self.pack or not _is_file(path):
            return None
        with decoding("Arrow IPC"):
            schema = _readable_in_place(path)
            if schema is None:
                return None
            roles = self.column_roles(schema.names)
            if not roles.payload:
                return None  # reading it says what is wrong
            pieces = []
            rows = 0
            with pa.OSFile(str(path), "rb") as source:
                for batch in _batches(source, is_file=True):
                    batch.validate(full=True)
                    rows += batch.num_rows
                    samples = self.samples(batch.select(roles.all), roles)
                    pieces.append((samples.labels, samples.timestamps))
        labels = None
        if roles.label is not None and pieces:
            labels = pa.concat_arrays([piece for piece, _ in pieces])
        return InPlaceSamples(
            layout=ArrowLayout(tuple(roles.payload)),
            num_rows=rows,
            schema=pa.schema([(name, schema.field(name).type) for name in roles.payload]),
            labels=labels,
            timestamps=joined_times([times for _, times in pieces]),
        )


def _is_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(FILE_MAGIC)) == FILE_MAGIC


def _batches(source: pa.NativeFile, *, is_file: bool) -> Iterator[pa.RecordBatch]:
    if is_file:
        with pa.ipc.open_file(source) as reader:
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
    else:
        with pa.ipc.open_stream(source) as stream:
            yield from stream


def _readable_in_place(path: Path) -> pa.Schema | None:
    """The schema of a file whose batches are views of a memory map of it; None where they would have to be decoded.

    Only the headers of the batches are touched.
    """
    with pa.memory_map(str(path)) as file:
        content = file.read_buffer(file.size())
        with pa.ipc.open_file(content) as reader:
            schema = reader.schema
            count = reader.num_record_batches
            if not count or not all(_is_plain(field.type) for field in schema):
                return None
            if count > 1 and content.size < count * MIN_BATCH_BYTES:
                return None
            start, end = content.address, content.address + content.size
            for index in range(count):
                for column in reader.get_batch(index).columns:
                    for buffer in column.buffers():
                        if buffer is not None and buffer.size and not start <= buffer.address < end:
                            return None  # compressed, or in foreign byte order
    return schema


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values are stored in the form in which Modyn stores them."""
    if pa.types.is_nested(kind):
        if not (pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            return pa.types.is_fixed_size_list(kind) and _is_plain(kind.value_type)
        return all(_is_plain(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_primitive(kind) or kind in _PLAIN or pa.types.is_fixed_size_binary(kind))


_PLAIN = (pa.binary(), pa.large_binary(), pa.string(), pa.large_string(), pa.bool_())
