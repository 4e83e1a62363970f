"""Collecting files whose samples stay where they are: the counterpart of :class:`modyn.storage.staging.Staging`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import checksum_file
from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import InPlaceSamples, WholeFileLayout
from modyn.storage.folder import SourceFile
from modyn.storage.gather import as_slice, take
from modyn.storage.in_place import PlacedFile, part_rows_of, write_in_place_segment
from modyn.storage.schema import cast_labels, conform, normal_labels, plain_payload
from modyn.storage.segments import MAX_SEGMENT_SAMPLES, Columns, SegmentInfo
from modyn.storage.staging import StagedSchema, order_by_time, write_all
from modyn.storage.view import as_array


@dataclass(frozen=True, eq=False)
class FoundFile:
    """A file of the source with its samples, all of it checked but for the dataset's schema."""

    placed: PlacedFile
    samples: InPlaceSamples


def found_file(file: SourceFile, location: str, uri: str | None, samples: InPlaceSamples) -> FoundFile:
    """Reads a file once, for its checksum.

    Args:
        location: local path of the file.
        uri: where it is found again, if it is remote.

    Raises:
        OSError: it cannot be read.
    """
    rows = part_rows_of(samples.layout, samples.num_rows, location)
    checksum = checksum_file(location)
    return FoundFile(PlacedFile(location, uri, file.size, file.mtime_ns, checksum, samples.layout, rows), samples)


@dataclass(frozen=True, eq=False)
class _Piece:
    placed: PlacedFile
    labels: pa.Array
    times: Int64Array
    role: int


class Placing:
    """Collects files and writes segments that point into them.

    Args:
        folder: the dataset's folder.
        schema: what the dataset's earlier samples look like.
    """

    def __init__(self, folder: Path, schema: StagedSchema) -> None:
        self.schema = schema
        self._segments = folder / "segments"
        self._pieces: list[_Piece] = []
        self.num_rows = 0

    def add(self, found: FoundFile, default_timestamp: int, role: int) -> None:
        """Adds a file's samples after those already there.

        Args:
            default_timestamp: event time of samples that carry none, Unix seconds.
            role: what they may be used for.

        Raises:
            CorruptDataError: they do not fit the dataset's schema; nothing of them was added.
        """
        samples = found.samples
        if samples.num_rows == 0:
            return
        empty = plain_payload(pa.record_batch([pa.nulls(0, field.type) for field in samples.schema], samples.schema))
        if self.schema.payload is not None and conform(empty, self.schema.payload).schema != empty.schema:
            raise CorruptDataError(  # the same columns in another order are not worth a layout of their own
                f"columns are {', '.join(empty.schema.names)}; expected them in the order "
                f"{', '.join(self.schema.payload.names)}"
            )
        labels = pa.nulls(samples.num_rows) if samples.labels is None else normal_labels(samples.labels)
        label_type = self.schema.label
        if not pa.types.is_null(labels.type):
            labels = labels if label_type is None else cast_labels(labels, label_type)
            label_type = labels.type
        self.schema = StagedSchema(empty.schema, label_type)
        times = samples.timestamps
        if times is None:
            times = np.full(samples.num_rows, default_timestamp, dtype=np.int64)
        self._pieces.append(_Piece(found.placed, labels, times, role))
        self.num_rows += samples.num_rows

    def write(self) -> tuple[list[SegmentInfo], Int64Array]:
        """Writes segments, samples by (timestamp, file, position). All are on disk when this returns, none if it fails.

        Returns:
            The segments, and the numbers of the samples, as added, in the order of keys.

        Raises:
            UnavailableError: the disk is full or not writable.
        """
        times = np.concatenate([np.empty(0, dtype=np.int64), *(piece.times for piece in self._pieces)])
        order = order_by_time(times)
        return write_all(self._segments, self._written(order, times)), order

    def _written(self, order: Int64Array, times: Int64Array) -> Iterator[SegmentInfo]:
        if not self._pieces:
            return
        label_type = self.schema.label or pa.int64()
        labels = pa.concat_arrays([_typed(piece.labels, label_type) for piece in self._pieces])
        file_of_row = np.repeat(np.arange(len(self._pieces)), [len(piece.times) for piece in self._pieces])
        starts = np.searchsorted(file_of_row, np.arange(len(self._pieces)))
        roles = np.array([piece.role for piece in self._pieces], dtype=np.int8)
        same_role = len(set(roles.tolist())) <= 1
        for first in range(0, len(order), MAX_SEGMENT_SAMPLES):
            rows = as_slice(order[first : first + MAX_SEGMENT_SAMPLES])
            file = file_of_row[rows]
            position = as_array(rows) - starts[file]
            column = take(pa.record_batch([labels], names=["label"]), rows).column(0)
            columns = Columns(times[rows], column, None if same_role else roles[file])
            info = self._segment(file, position, columns)
            yield replace(info, role=int(roles[0]) if same_role else None)

    def _segment(self, file: Int64Array, position: Int64Array, columns: Columns) -> SegmentInfo:
        used = np.flatnonzero(np.bincount(file, minlength=len(self._pieces)))
        number = np.searchsorted(used, np.arange(len(self._pieces)))[file]  # counted over the used ones
        placed = [self._pieces[index].placed for index in used.tolist()]
        places = _parts_of(placed, number, position)
        assert self.schema.payload is not None  # set by the first file
        return write_in_place_segment(self._segments, placed, places, columns, self.schema.payload)


def _parts_of(files: Sequence[PlacedFile], file: Int64Array, row: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Part and row in it, by file and row in that."""
    if isinstance(files[0].layout, WholeFileLayout):
        return np.zeros(len(file), dtype=np.int64), file
    if all(len(each.part_rows) == 1 for each in files):
        return file, row
    first_part = np.cumsum([0, *(len(each.part_rows) for each in files)])
    part_of_row, row_in_part = np.empty_like(file), np.empty_like(row)
    for index, each in enumerate(files):
        mine = file == index
        ends = np.cumsum(each.part_rows)
        part = np.searchsorted(ends, row[mine], side="right")
        part_of_row[mine] = first_part[index] + part
        row_in_part[mine] = row[mine] - (ends - each.part_rows)[part]
    return part_of_row, row_in_part


def _typed(labels: pa.Array, label_type: pa.DataType) -> pa.Array:
    return labels if labels.type == label_type else pa.nulls(len(labels), label_type)
