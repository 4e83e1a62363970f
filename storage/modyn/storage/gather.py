"""Gathering rows of several parts into one batch or column, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.storage.copying import copied
from modyn.storage.files import read_files
from modyn.storage.picks import Picks, as_slice, rows_of_ranges
from modyn.storage.values import Files, Values, values_of

__all__ = ["Picks", "as_slice", "gather", "gather_column", "rows_of_ranges", "take"]


def gather(parts: Sequence[pa.RecordBatch], part_of_row: Int64Array, row_in_part: Int64Array) -> pa.RecordBatch:
    """Row ``i`` of the result is row ``row_in_part[i]`` of ``parts[part_of_row[i]]``.

    Args:
        parts: batches of one schema, at least one.
        part_of_row: int64 [n].
        row_in_part: int64 [n]; not checked against the batch's length.

    Consecutive rows of one part are not copied.
    """
    return _gathered(parts, Picks(row_in_part, part_of_row))


def take(batch: pa.RecordBatch, rows: Int64Array | slice) -> pa.RecordBatch:
    """Some rows of one batch; a run of consecutive rows is a view."""
    if isinstance(rows, slice):
        return batch.slice(rows.start, rows.stop - rows.start)
    return _gathered([batch], Picks(rows))


def gather_column(columns: Sequence[Values], picks: Picks, kind: pa.DataType) -> pa.Array:
    """One column of the result, [n]; a run of consecutive rows of an Arrow column is a view.

    Args:
        columns: of each part.
        kind: type of the column.

    Raises:
        CorruptDataError: a sample that is a file is no longer the one that was ingested.
    """
    if len(picks) == 0:
        return pa.nulls(0, kind)
    if isinstance(columns[picks.part], Files):  # then all of them are
        return read_files(cast("Sequence[Files]", columns), picks)
    array = None if picks.run is None else columns[picks.part].array
    if array is not None:
        assert picks.run is not None  # see above
        return array.slice(picks.run.start, len(picks))
    return copied(columns, picks, kind)


def _gathered(parts: Sequence[pa.RecordBatch], picks: Picks) -> pa.RecordBatch:
    if len(picks) == 0:
        return parts[0].slice(0, 0)
    if picks.run is not None:
        return parts[picks.part].slice(picks.run.start, len(picks))
    schema = parts[0].schema
    columns = [
        gather_column([values_of(part.column(index), field.type) for part in parts], picks, field.type)
        for index, field in enumerate(schema)
    ]
    return pa.record_batch(columns, schema=schema)
