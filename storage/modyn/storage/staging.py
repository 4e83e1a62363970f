"""Staging: rows on their way into segments, in bounded memory, from any number of files or messages."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import TEMPORARY_PREFIX
from modyn.core.plugins.formats import FileSamples
from modyn.storage.gather import gather
from modyn.storage.schema import cast_labels, conform, normal_labels, plain_payload
from modyn.storage.segments import (
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_SAMPLES,
    Columns,
    SegmentInfo,
    delete_segment,
    write_segment,
)

BLOCK_BYTES = 32 << 20
"""Pieces are joined into blocks of about this size; order is resolved between blocks."""

MEMORY_BYTES = 256 << 20
"""Blocks beyond this total wait in a temporary file instead of in memory."""

_ARRIVAL = -(2**63)
"""Stands for an event time not known yet."""


@dataclass(frozen=True)
class StagedSchema:
    """Payload columns and label type, None until the first samples or labels tell."""

    payload: pa.Schema | None
    label: pa.DataType | None


@dataclass(frozen=True)
class Mark:
    """A point to roll back to."""

    rows: int
    schema: StagedSchema


class Staging:
    """Collects samples and writes them as segments.

    Args:
        folder: the dataset's folder; segments go to ``folder/segments``.
        schema: what the dataset's earlier samples look like.
    """

    def __init__(self, folder: Path, schema: StagedSchema) -> None:
        self.schema = schema
        self._segments = folder / "segments"
        self._spill = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        self._pieces: list[tuple[pa.RecordBatch, pa.Array]] = []
        self._piece_bytes = 0
        self._blocks: list[pa.RecordBatch] = []  # payload columns, then the labels as the last column
        self._block_starts: list[int] = []
        self._memory_bytes = 0
        self._times: list[Int64Array] = []
        self._roles: list[int] = []  # of each of the times' arrays
        self.num_rows = 0
        self.needs_arrival = False
        """Whether some event time is only known when the samples arrive."""

    def add(self, samples: FileSamples, default_timestamp: int | None, role: int) -> None:
        """Adds samples after those already there.

        Args:
            default_timestamp: event time of samples that carry none; None for their arrival time.
            role: what they may be used for.

        Raises:
            CorruptDataError: they do not fit the dataset's schema; nothing of them was added.
        """
        payload = plain_payload(samples.payload)
        rows = payload.num_rows
        if rows == 0:
            return
        if self.schema.payload is not None:
            payload = conform(payload, self.schema.payload)
        labels = pa.nulls(rows) if samples.labels is None else normal_labels(samples.labels)
        if not pa.types.is_null(labels.type):
            if self.schema.label is not None:
                labels = cast_labels(labels, self.schema.label)
            self.schema = StagedSchema(self.schema.payload, labels.type)
        self.schema = StagedSchema(payload.schema, self.schema.label)
        times = samples.timestamps
        if times is None:
            self.needs_arrival |= default_timestamp is None
            times = np.full(rows, _ARRIVAL if default_timestamp is None else default_timestamp, dtype=np.int64)
        self._times.append(times)
        self._roles.append(role)
        self._pieces.append((payload, labels))
        self._piece_bytes += payload.nbytes
        self.num_rows += rows
        if self._piece_bytes >= BLOCK_BYTES:
            self._close_block()

    def mark(self) -> Mark:
        return Mark(self.num_rows, self.schema)

    def roll_back(self, mark: Mark) -> None:
        """Forgets all rows added since the mark."""
        while self.num_rows > mark.rows:  # a mark never lies inside a piece
            self.num_rows -= len(self._times.pop())
            self._roles.pop()
        while self._pieces and self._closed_rows + sum(p.num_rows for p, _ in self._pieces) > mark.rows:
            payload, _ = self._pieces.pop()
            self._piece_bytes -= payload.nbytes
        while self._blocks and self._block_starts[-1] >= mark.rows:
            self._blocks.pop()
            self._block_starts.pop()
        if self._blocks and self._closed_rows > mark.rows:
            self._blocks[-1] = self._blocks[-1].slice(0, mark.rows - self._block_starts[-1])
        self.schema = mark.schema

    def order(self, *, by_time: bool) -> Int64Array:
        """Numbers of the rows in key order: as added, or by (timestamp, as added)."""
        if not by_time or self.num_rows == 0:
            return np.arange(self.num_rows, dtype=np.int64)
        return order_by_time(np.concatenate(self._times))

    def adopt(self, other: Staging) -> None:
        """Adds another staging's rows after those already there; both have to fit one schema.

        Raises:
            CorruptDataError: they do not; nothing was added.
        """
        mark = self.mark()
        try:
            for (payload, labels), times, role in other.rows():
                known = None if bool((times == _ARRIVAL).all()) else times
                self.add(FileSamples(payload, labels, known), None, role)
        except CorruptDataError:
            self.roll_back(mark)
            raise

    def rows(self) -> Iterator[tuple[tuple[pa.RecordBatch, pa.Array], Int64Array, int]]:
        """Pieces with their times and role, while all are in memory."""
        assert not self._blocks  # only small stagings are asked for their pieces
        return zip(self._pieces, self._times, self._roles, strict=True)

    @property
    def num_bytes(self) -> int | None:
        """Of all rows; None once that many have come that they are in blocks."""
        return None if self._blocks else self._piece_bytes

    def write(self, order: Int64Array, arrival: int | None = None) -> list[SegmentInfo]:
        """Writes the rows as segments, in this order. All are on disk when this returns, none if it fails.

        Args:
            arrival: event time of samples that have no other; only left out where there are none.

        Raises:
            UnavailableError: the disk is full or not writable.
        """
        return write_all(self._segments, self._written(order, arrival))

    def discard(self, infos: list[SegmentInfo]) -> None:
        """Deletes segments that were written but are not to be committed."""
        for info in infos:
            delete_segment(self._segments, info.name)

    def _written(self, order: Int64Array, arrival: int | None) -> Iterator[SegmentInfo]:
        if len(order) == 0:
            return
        self._close_block()
        roles, role = self._all_roles()
        times = self._all_times()
        if self.needs_arrival:
            assert arrival is not None  # the caller has looked at needs_arrival
            times = np.where(times == _ARRIVAL, arrival, times)
        label_type = self.schema.label or pa.int64()
        blocks = [_with_label_type(block, label_type) for block in self._blocks]
        starts = np.array(self._block_starts, dtype=np.int64)
        bytes_per_row = max(1.0, sum(block.nbytes for block in blocks) / self.num_rows)
        step = max(1, min(MAX_SEGMENT_SAMPLES, int(MAX_SEGMENT_BYTES // bytes_per_row)))
        for first in range(0, len(order), step):
            rows = order[first : first + step]
            block_of_row = np.searchsorted(starts, rows, side="right") - 1
            batch = gather(blocks, block_of_row, rows - starts[block_of_row])
            payload = pa.record_batch(batch.columns[:-1], schema=self.schema.payload)
            columns = Columns(times[rows], batch.columns[-1], None if roles is None else roles[rows])
            yield replace(write_segment(self._segments, payload, columns), role=role)

    def close(self) -> None:
        """Deletes temporary files."""
        self._blocks, self._pieces = [], []
        shutil.rmtree(self._spill, ignore_errors=True)

    @property
    def _closed_rows(self) -> int:
        return self._block_starts[-1] + self._blocks[-1].num_rows if self._blocks else 0

    def _all_roles(self) -> tuple[npt.NDArray[np.int8] | None, int | None]:
        """Roles of all rows where they differ, else the one of all."""
        if len(set(self._roles)) <= 1:
            return None, self._roles[0]
        return np.repeat(np.array(self._roles, dtype=np.int8), [len(times) for times in self._times]), None

    def _all_times(self) -> Int64Array:
        return np.concatenate(self._times) if len(self._times) > 1 else self._times[0]

    def _close_block(self) -> None:
        if not self._pieces:
            return
        assert self.schema.payload is not None  # set by the first piece
        label_type = next((labels.type for _, labels in self._pieces if labels.type != pa.null()), pa.null())
        labels = [_nulls_as(column, label_type) for _, column in self._pieces]
        payload = pa.concat_batches([piece for piece, _ in self._pieces])
        columns = [*payload.columns, pa.concat_arrays(labels)]
        block = pa.record_batch(columns, names=[*payload.schema.names, "label"])
        if self._memory_bytes >= MEMORY_BYTES:
            block = self._spilled(block)
        else:
            self._memory_bytes += block.nbytes
        self._block_starts.append(self._closed_rows)
        self._blocks.append(block)
        self._pieces, self._piece_bytes = [], 0

    def _spilled(self, block: pa.RecordBatch) -> pa.RecordBatch:
        path = self._spill / str(len(self._blocks))
        try:
            self._spill.mkdir(exist_ok=True)
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, block.schema) as writer:
                writer.write_batch(block)
        except OSError as error:
            raise UnavailableError(
                f"cannot write temporary data to {self._spill.parent}: {error.strerror or error}; nothing was "
                "committed. Free or add disk space and try again"
            ) from error
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(0)


def order_by_time(times: Int64Array) -> Int64Array:
    """Numbers of rows by (time, number), int64 [n]."""
    if bool((times[1:] >= times[:-1]).all()):
        return np.arange(len(times), dtype=np.int64)
    return np.argsort(times, kind="stable").astype(np.int64, copy=False)


def write_all(segments: Path, written: Iterator[SegmentInfo]) -> list[SegmentInfo]:
    """All segments of an iterator that writes them; none is left if it fails."""
    infos: list[SegmentInfo] = []
    try:
        for info in written:
            infos.append(info)  # noqa: PERF402 - what was written before a failure must be known
    except BaseException:
        for info in infos:
            delete_segment(segments, info.name)
        raise
    return infos


def _with_label_type(block: pa.RecordBatch, label_type: pa.DataType) -> pa.RecordBatch:
    labels = _nulls_as(block.columns[-1], label_type)
    return pa.record_batch([*block.columns[:-1], labels], names=block.schema.names)


def _nulls_as(labels: pa.Array, label_type: pa.DataType) -> pa.Array:
    """Labels that are all missing take any type."""
    return labels if labels.type == label_type else pa.nulls(len(labels), label_type)
