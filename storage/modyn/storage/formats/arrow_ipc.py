"""Arrow IPC files and streams (Feather)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from modyn.core.arrow import slices
from modyn.core.plugins.formats import FORMATS, FileSamples
from modyn.storage.formats.columnar import PIECE_BYTES, ColumnarFormat, decoding

FILE_MAGIC = b"ARROW1"


@FORMATS.register("arrow")
class ArrowFormat(ColumnarFormat):
    """Arrow IPC files or streams (Feather), one sample a row; column types are those of the files."""

    default_pattern: ClassVar[str] = "**/*.arrow"

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        # Not memory-mapped: if the owner truncated the file meanwhile, reading the map would kill the process.
        with decoding("Arrow IPC"), pa.OSFile(str(path), "rb") as source:
            magic = source.read(len(FILE_MAGIC))
            source.seek(0)
            for batch in _batches(source, is_file=magic == FILE_MAGIC):
                roles = self.roles(batch.schema.names)
                piece = batch.select(roles.all)
                rows = max(1, int(PIECE_BYTES // max(1.0, piece.nbytes / max(1, piece.num_rows))))
                for part in slices(piece.num_rows, rows):
                    yield self.samples(piece.slice(part.start, part.stop - part.start), roles)


def _batches(source: pa.NativeFile, *, is_file: bool) -> Iterator[pa.RecordBatch]:
    if is_file:
        with pa.ipc.open_file(source) as reader:
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
    else:
        with pa.ipc.open_stream(source) as stream:
            yield from stream
