"""Segments: immutable, checksummed, memory-mapped columns of consecutive samples.

A segment is a folder of uncompressed Arrow IPC files of one record batch each:

- ``columns.arrow``: ``timestamp`` (int64) and ``label`` (nullable), and where they are not the same for the whole
  segment ``arrival`` (int64) and ``role`` (int8); its schema metadata holds the format version and the checksums of the
  others;
- ``payload.arrow``: the payload columns; or, if the samples stay in the source's own files, what
  :mod:`modyn.storage.in_place` writes;
- ``contents.arrow``: only in segments that compaction wrote, see :mod:`modyn.storage.contents`.

The segment's digest is the checksum of ``columns.arrow`` and so covers all. Segments as ingested hold no keys, names or
clocks: equal samples give equal digests wherever they are ingested. The catalog's row says which keys they have.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import fsync_directory, write_batch
from modyn.core.versions import SEGMENT_FORMAT_VERSION
from modyn.storage.parts import BatchPart, LostPart, Mapping, Part, map_file
from modyn.storage.schema import canonical

PAYLOAD_FILE = "payload.arrow"
COLUMNS_FILE = "columns.arrow"

MAX_SEGMENT_SAMPLES = 1_000_000
MAX_SEGMENT_BYTES = 256 << 20
"""A commit is cut into segments at whichever comes first; a single sample may be larger."""

MAX_OPEN_SEGMENTS = 4_096
"""Memory maps kept open, two a segment; Linux allows 65,530 a process. They hold no file descriptors."""

ARROW, IN_PLACE, MERGED, REMOVED = "arrow", "in_place", "merged", "removed"
"""Kinds of segments: as ingested, with payload in the source's files, as compaction writes them, wholly deleted."""

_VERSION_KEY = b"modyn.segment_format"
_PAYLOAD_DIGEST_KEY = b"modyn.payload_digest"
_READABLE_VERSIONS = ("1", str(SEGMENT_FORMAT_VERSION))


@dataclass(frozen=True)
class SegmentInfo:
    """What the catalog knows of a segment. Where it was just written, keys, arrival and role are not known yet."""

    name: str
    kind: str
    first_key: int
    num_samples: int
    num_unlabelled: int
    min_timestamp: int
    max_timestamp: int
    min_arrival: int
    max_arrival: int
    role: int | None
    """None where samples differ in it."""
    payload_bytes: int
    columns_bytes: int
    digest: str
    format_version: int = SEGMENT_FORMAT_VERSION

    @property
    def end_key(self) -> int:
        return self.first_key + self.num_samples


@dataclass(frozen=True, eq=False)
class Places:
    """Where the rows of a segment lie, as runs of consecutive rows of one part; arrays have one entry per run."""

    first_rows: Int64Array
    parts: npt.NDArray[np.int32]
    rows: Int64Array


@dataclass(frozen=True, eq=False)
class Segment:
    """An open segment of n samples; all columns point into memory maps."""

    columns: pa.RecordBatch
    """``timestamp`` and ``label``; ``arrival`` and ``role`` where they differ."""
    parts: tuple[Part, ...]
    places: Places | None = None
    """None: rows are those of the one part, in its order."""

    @property
    def timestamps(self) -> Int64Array:
        times: Int64Array = self.columns.column(0).to_numpy()
        return times

    @property
    def labels(self) -> pa.Array:
        return self.columns.column(1)

    @cached_property
    def is_whole(self) -> bool:
        """Whether all files of its samples are those that were ingested, as far as was seen when it was opened."""
        return not any(isinstance(part, LostPart) for part in self.parts)

    def varying(self, name: str) -> npt.NDArray[np.int64] | None:
        """The column ``arrival`` or ``role``, [n]; None where the catalog's row says it for all."""
        index = self.columns.schema.get_field_index(name)
        return None if index < 0 else self.columns.column(index).to_numpy()

    def locate(self, rows: Int64Array) -> tuple[Int64Array | None, Int64Array]:
        """Part and row in it of each row; None for the part where there is one with the rows in order."""
        places = self.places
        if places is None:
            return None, rows
        if len(places.first_rows) == self.columns.num_rows:  # every row is a run of its own
            return places.parts[rows].astype(np.int64), places.rows[rows]
        run = np.searchsorted(places.first_rows, rows, side="right") - 1
        return places.parts[run].astype(np.int64), places.rows[run] + (rows - places.first_rows[run])


class Columns(NamedTuple):
    """The columns of n samples on their way into a segment."""

    timestamps: Int64Array
    labels: pa.Array
    roles: npt.NDArray[np.int8] | None = None
    """None where all have the same."""
    arrivals: Int64Array | None = None
    """None where all have the same, which the catalog's row says."""


def write_segment(parent: Path, payload: pa.RecordBatch, columns: Columns, *, kind: str = ARROW) -> SegmentInfo:
    """Writes a segment into a new folder of ``parent``; it is on disk (fsynced) when this returns.

    Raises:
        UnavailableError: the disk is full or not writable; nothing is left of the segment.
    """
    with new_segment(parent) as folder:
        arrays = [canonical(column) for column in payload.columns]
        size, checksum = write_batch(folder / PAYLOAD_FILE, pa.record_batch(arrays, schema=payload.schema))
        return finish_segment(folder, columns, payload_bytes=size, payload_digest=checksum, kind=kind)


@contextmanager
def new_segment(parent: Path) -> Iterator[Path]:
    """A new folder for a segment's files, deleted again if the block fails.

    Raises:
        UnavailableError: the disk is full or not writable.
    """
    name = uuid.uuid4().hex
    folder = parent / name
    try:
        folder.mkdir(parents=True)
        yield folder
    except BaseException as error:
        delete_segment(parent, name)
        if isinstance(error, OSError):
            raise UnavailableError(
                f"cannot write a segment to {parent}: {error.strerror or error}; nothing was committed. "
                "Free or add disk space and try again"
            ) from error
        raise


def finish_segment(
    folder: Path,
    columns: Columns,
    *,
    payload_bytes: int,
    payload_digest: str,
    kind: str,
    metadata: dict[bytes, str] | None = None,
) -> SegmentInfo:
    """Writes the columns file, last of all, and makes the folder durable."""
    fields = [("timestamp", pa.array(columns.timestamps)), ("label", canonical(columns.labels))]
    if columns.arrivals is not None:
        fields.append(("arrival", pa.array(columns.arrivals)))
    if columns.roles is not None:
        fields.append(("role", pa.array(columns.roles)))
    said = {_VERSION_KEY: str(SEGMENT_FORMAT_VERSION), _PAYLOAD_DIGEST_KEY: payload_digest, **(metadata or {})}
    schema = pa.schema([(name, array.type) for name, array in fields], metadata=said)
    size, checksum = write_batch(folder / COLUMNS_FILE, pa.record_batch([array for _, array in fields], schema=schema))
    fsync_directory(folder)
    fsync_directory(folder.parent)
    arrivals = columns.arrivals if columns.arrivals is not None and len(columns.arrivals) else np.zeros(1, np.int64)
    return SegmentInfo(
        name=folder.name,
        kind=kind,
        first_key=0,
        num_samples=len(columns.timestamps),
        num_unlabelled=columns.labels.null_count,
        min_timestamp=int(columns.timestamps.min()),
        max_timestamp=int(columns.timestamps.max()),
        min_arrival=int(arrivals.min()),
        max_arrival=int(arrivals.max()),
        role=None,
        payload_bytes=payload_bytes,
        columns_bytes=size,
        digest=checksum,
    )


def delete_segment(parent: Path, name: str) -> None:
    """Deletes the files of a segment that is not, or no longer, committed."""
    shutil.rmtree(parent / name, ignore_errors=True)


Fetch = Callable[[str, int, int], str]
"""Finds a file of a remote source: (URI, size, modification time in ns) → local path."""


def open_segment(parent: Path, info: SegmentInfo, fetch: Fetch | None = None) -> Segment:
    """Maps a segment into memory. Sizes and header are checked here, contents by :mod:`modyn.storage.verifying`.

    Args:
        fetch: needed where samples stay in files of a remote source.

    Raises:
        CorruptDataError: a file is missing, has another size, or is no segment of this format.
    """
    if info.kind == REMOVED:
        nothing = np.zeros(info.num_samples, dtype=np.int64)
        return Segment(pa.record_batch([pa.array(nothing), pa.nulls(len(nothing))], names=["timestamp", "label"]), ())
    folder = parent / info.name
    columns = read_batch(map_file(folder / COLUMNS_FILE, info.columns_bytes), info.num_samples)
    version = header(columns, _VERSION_KEY)
    if version not in _READABLE_VERSIONS:
        raise CorruptDataError(
            f"segment {folder} has format version {version}; this release reads {', '.join(_READABLE_VERSIONS)}"
        )
    if info.kind == IN_PLACE:
        from modyn.storage.in_place import open_places

        return Segment(columns, *open_places(folder, info, fetch))
    mapping = map_file(folder / PAYLOAD_FILE, info.payload_bytes)
    return Segment(columns, (BatchPart(read_batch(mapping, info.num_samples), mapping),))


def payload_digest(columns: pa.RecordBatch) -> str:
    """The checksum of the payload, as the columns file says."""
    return header(columns, _PAYLOAD_DIGEST_KEY)


def header(columns: pa.RecordBatch, key: bytes) -> str:
    """A value of the columns file's metadata."""
    value: bytes = (columns.schema.metadata or {}).get(key, b"none")
    return value.decode()


def read_batch(mapping: Mapping, num_rows: int | None = None) -> pa.RecordBatch:
    """The first record batch of a mapped Arrow IPC file.

    Raises:
        CorruptDataError: it is none, or has another number of rows.
    """
    try:
        with pa.ipc.open_file(pa.BufferReader(mapping.buffer)) as reader:
            batch = reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(
            f"segment file {mapping.path} cannot be decoded: {error}; restore it from a copy"
        ) from error
    if num_rows is not None and batch.num_rows != num_rows:
        raise CorruptDataError(f"segment file {mapping.path} has {batch.num_rows} samples; expected {num_rows}")
    return batch


class SegmentCache:
    """Open segments, the least recently used closed first. Safe to use from many threads."""

    def __init__(self, max_open: int = MAX_OPEN_SEGMENTS) -> None:
        self._max_open = max_open
        self._open: OrderedDict[tuple[Path, str], Segment] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, parent: Path, info: SegmentInfo, fetch: Fetch | None = None) -> Segment:
        """An open segment. It stays valid for its holder even when it leaves the cache."""
        place = (parent, info.name)
        with self._lock:
            segment = self._open.get(place)
            if segment is not None:
                self._open.move_to_end(place)
                return segment
        segment = open_segment(parent, info, fetch)
        if not segment.is_whole:
            return segment  # a lost file may be put back
        with self._lock:
            self._open[place] = segment
            while len(self._open) > self._max_open:
                self._open.popitem(last=False)
        return segment

    def forget(self, parent: Path, name: str) -> None:
        """Closes a segment once nobody holds it any more."""
        with self._lock:
            self._open.pop((parent, name), None)

    def clear(self) -> None:
        with self._lock:
            self._open.clear()
