"""Reading one file by its format alone, copied and in place, into something that can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modyn.core.plugins.formats import (
    ArrowLayout,
    FixedColumn,
    InPlaceSamples,
    RecordLayout,
    SourceFormat,
)
from modyn.storage.schema import plain_payload


@dataclass
class Samples:
    """All samples of a file."""

    payload: pa.RecordBatch
    labels: list[Any] | None
    times: list[int] | None

    def __len__(self) -> int:
        return int(self.payload.num_rows)

    def first(self, count: int) -> Samples:
        return Samples(
            self.payload.slice(0, count),
            self.labels and self.labels[:count],
            self.times and self.times[:count],
        )


def read_samples(source: SourceFormat, path: Path, expected: pa.Schema | None = None) -> Samples:
    """As the scan does: every piece in turn."""
    pieces = list(source.read(path, expected))
    if not pieces:
        return Samples(pa.record_batch({}), [], [])
    payload = pa.Table.from_batches([plain_payload(piece.payload) for piece in pieces]).combine_chunks()
    labels = [label for piece in pieces if piece.labels is not None for label in piece.labels.to_pylist()]
    times = [time for piece in pieces if piece.timestamps is not None for time in piece.timestamps.tolist()]
    batches = payload.to_batches()
    return Samples(
        batches[0] if batches else pa.RecordBatch.from_pylist([], schema=payload.schema),
        None if pieces[0].labels is None else labels,
        None if pieces[0].timestamps is None else times,
    )


def in_place_samples(source: SourceFormat, path: Path) -> Samples | None:
    """What the layout says, read by hand."""
    found = source.in_place(path)
    if found is None:
        return None
    payload = _payload(path, found)
    assert payload.schema == found.schema
    assert payload.num_rows == found.num_rows
    if isinstance(found.layout, RecordLayout):
        assert found.layout.num_rows == found.num_rows
    for column in (found.labels, found.timestamps):
        assert column is None or len(column) == found.num_rows
    return Samples(
        payload,
        None if found.labels is None else found.labels.to_pylist(),
        None if found.timestamps is None else found.timestamps.tolist(),
    )


def _payload(path: Path, found: InPlaceSamples) -> pa.RecordBatch:
    content = path.read_bytes()
    if isinstance(found.layout, ArrowLayout):
        with pa.ipc.open_file(content) as reader:
            table = reader.read_all().select(list(found.layout.columns)).combine_chunks()
        schema = pa.schema([(field.name, field.type) for field in table.schema])
        return pa.record_batch([column.chunk(0) for column in table.columns], schema=schema)
    if isinstance(found.layout, RecordLayout):
        columns = [_fixed(content, column, found.num_rows) for column in found.layout.columns]
        return pa.record_batch(columns, names=[column.name for column in found.layout.columns])
    return pa.record_batch([pa.array([content], pa.binary())], names=["payload"])


def _fixed(content: bytes, column: FixedColumn, num_rows: int) -> pa.Array:
    rows = [content[column.offset + row * column.stride :][: column.width] for row in range(num_rows)]
    data = pa.py_buffer(np.frombuffer(b"".join(rows), dtype=np.uint8))
    if not pa.types.is_fixed_size_list(column.type):
        return pa.Array.from_buffers(column.type, num_rows, [None, data])
    items = pa.Array.from_buffers(column.type.value_type, num_rows * column.type.list_size, [None, data])
    return pa.FixedSizeListArray.from_arrays(items, type=column.type)
