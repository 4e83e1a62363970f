"""The payload columns of segments: rows in any order, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.storage.gather import Picks, gather_column
from modyn.storage.parts import LostPart, Part
from modyn.storage.segments import Segment
from modyn.storage.values import Fixed, Values, values_of


def gather_rows(segment: Segment, names: Sequence[str], rows: Int64Array) -> pa.RecordBatch:
    """Payload columns of some rows of one segment, in their order, [len(rows)].

    Raises:
        CorruptDataError: a file that the samples lie in was changed or cannot be read.
    """
    schema = pa.schema([(name, _kind(segment.parts, name)) for name in names])
    return PayloadReader(schema, lambda _: segment).at(np.zeros(len(rows), dtype=np.int64), rows).batch()


def _kind(parts: Sequence[Part], name: str) -> pa.DataType:
    whole = next((part for part in parts if not isinstance(part, LostPart)), parts[0])
    return getattr(whole.column(name), "type", pa.binary())


class PayloadReader:
    """Finds and gathers payload columns; keeps what it knows of the parts it has used.

    Args:
        schema: the columns to read.
        segment: opens a segment by its number.
    """

    def __init__(self, schema: pa.Schema, segment: Callable[[int], Segment]) -> None:
        self.schema = schema
        self._segment = segment
        self._first_part: dict[int, int] = {}
        """Number of the first part of each segment used so far."""
        self._parts: list[Part] = []
        self.columns: list[list[Values | None]] = [[] for _ in schema]
        """By column and part; None until it is needed."""

    def at(self, segments: Int64Array, rows: Int64Array) -> PayloadPicks:
        """Rows of segments, int64 [n] both.

        Raises:
            CorruptDataError: a segment, or a file that samples lie in, was changed or cannot be read.
        """
        if len(rows) == 0:
            return PayloadPicks(self, Picks(rows))
        asked = Picks(rows, segments)
        pieces = [self._located(index, piece) for index, _, piece in asked.pieces]
        if len(pieces) == 1:
            parts, rows = pieces[0]
        else:
            parts = np.concatenate([parts for parts, _ in pieces])
            rows = np.concatenate([rows for _, rows in pieces])
        if asked.order is not None:
            parts, rows = parts[asked.inverse], rows[asked.inverse]
        picks = Picks(rows, parts)
        self._open(picks.used)
        return PayloadPicks(self, picks)

    def _located(self, index: int, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        segment = self._segment(index)
        first = self._first_part.get(index)
        if first is None:
            first = self._first_part[index] = len(self._parts)
            self._parts += segment.parts
            for column in self.columns:
                column.extend([None] * len(segment.parts))
        parts, rows_in_part = segment.locate(rows)
        return np.full(len(rows), first, dtype=np.int64) if parts is None else parts + first, rows_in_part

    def _open(self, used: Sequence[int]) -> None:
        """Looks at parts before their memory is touched."""
        for part in used:
            mapping = self._parts[part].mapping
            if mapping is None or not mapping.is_guarded:
                self._parts[part].check()
            for values, field in zip(self.columns, self.schema, strict=True):
                if values[part] is None:
                    values[part] = values_of(self._parts[part].column(field.name), field.type)

    def foreign(self, used: Sequence[int]) -> list[Part]:
        """Of these parts, those in files that others may change."""
        parts = [self._parts[part] for part in used]
        return [part for part in parts if part.mapping is not None and part.mapping.is_foreign]


class PayloadPicks:
    """Rows that were found."""

    def __init__(self, reader: PayloadReader, picks: Picks) -> None:
        self._reader = reader
        self.picks = picks

    def __len__(self) -> int:
        return len(self.picks)

    def cut(self, first: int, last: int) -> PayloadPicks:
        return PayloadPicks(self._reader, self.picks.cut(first, last))

    @property
    def columns(self) -> Sequence[Sequence[Values]]:
        """By column and part; those of the parts that rows are picked from are there."""
        return self._reader.columns  # type: ignore[return-value]

    def batch(self) -> pa.RecordBatch:
        """Their columns, [n]."""
        schema = self._reader.schema
        arrays = [
            gather_column(column, self.picks, field.type) if len(self) else pa.nulls(0, field.type)
            for column, field in zip(self.columns, schema, strict=True)
        ]
        foreign = self._reader.foreign(self.picks.used)
        if foreign and self.picks.run is not None:  # a view of such a file might show other bytes later
            arrays = [column.take(pa.array(np.arange(len(column)))) for column in arrays]
        for part in foreign:
            part.check()
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * len(self), pa.struct([])))
        return pa.record_batch(arrays, schema=schema)

    def sizes(self) -> Int64Array:
        """Bytes of each row, int64 [n]."""
        sizes = np.zeros(len(self), dtype=np.int64)
        if len(self) == 0:
            return sizes
        for column in self.columns:
            if all(isinstance(column[part], Fixed) for part in self.picks.used):
                sizes += column[self.picks.part].sizes(self.picks.rows)
                continue
            found = np.empty(len(self), dtype=np.int64)
            for part, places, rows in self.picks.pieces:
                found[places] = column[part].sizes(rows)
            sizes += found if self.picks.order is None else found[self.picks.inverse]
        return sizes
