"""Segments: immutable, checksummed, memory-mapped columns of consecutive samples.

A segment is a folder with two uncompressed Arrow IPC files of one record batch each:

- ``payload.arrow``: the payload columns;
- ``columns.arrow``: ``timestamp`` (int64) and ``label`` (nullable); its schema metadata holds the format version and
  the digest of ``payload.arrow``.

The segment's digest is that of ``columns.arrow`` and so covers both. Files hold no keys, names or clocks: equal samples
give equal digests wherever they are ingested. Keys follow from the catalog's row (first key, number of samples).
"""

from __future__ import annotations

import shutil
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import digest_file
from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import fsync_directory, fsync_file
from modyn.core.versions import SEGMENT_FORMAT_VERSION
from modyn.storage.schema import canonical

PAYLOAD_FILE = "payload.arrow"
COLUMNS_FILE = "columns.arrow"

MAX_SEGMENT_SAMPLES = 1_000_000
MAX_SEGMENT_BYTES = 256 << 20
"""A commit is cut into segments at whichever comes first; a single sample may be larger."""

MAX_OPEN_SEGMENTS = 4_096
"""Memory maps kept open, two a segment; Linux allows 65,530 a process. They hold no file descriptors."""

_VERSION_KEY = b"modyn.segment_format"
_PAYLOAD_DIGEST_KEY = b"modyn.payload_digest"


@dataclass(frozen=True)
class SegmentInfo:
    """What the catalog knows of a segment, but for its first key."""

    name: str
    num_samples: int
    num_unlabelled: int
    min_timestamp: int
    max_timestamp: int
    payload_bytes: int
    columns_bytes: int
    digest: str
    format_version: int = SEGMENT_FORMAT_VERSION


@dataclass(frozen=True, eq=False)
class Segment:
    """An open segment of n samples; all columns point into memory maps."""

    payload: pa.RecordBatch
    columns: pa.RecordBatch
    """``timestamp`` and ``label``."""

    @property
    def timestamps(self) -> Int64Array:
        times: Int64Array = self.columns.column(0).to_numpy()
        return times

    @property
    def labels(self) -> pa.Array:
        return self.columns.column(1)


def write_segment(parent: Path, payload: pa.RecordBatch, timestamps: Int64Array, labels: pa.Array) -> SegmentInfo:
    """Writes a segment into a new folder of ``parent``; it is on disk (fsynced) when this returns.

    Raises:
        UnavailableError: the disk is full or not writable; nothing is left of the segment.
    """
    name = uuid.uuid4().hex
    folder = parent / name
    try:
        folder.mkdir(parents=True)
        return _write(folder, payload, timestamps, labels)
    except OSError as error:
        delete_segment(parent, name)
        reason = error.strerror or str(error)
        raise UnavailableError(
            f"cannot write a segment to {parent}: {reason}; nothing was committed. Free or add disk space and try again"
        ) from error


def delete_segment(parent: Path, name: str) -> None:
    """Deletes a segment that is not committed."""
    shutil.rmtree(parent / name, ignore_errors=True)


def _write(folder: Path, payload: pa.RecordBatch, timestamps: Int64Array, labels: pa.Array) -> SegmentInfo:
    columns = [canonical(column) for column in payload.columns]
    _write_file(folder / PAYLOAD_FILE, pa.record_batch(columns, schema=payload.schema))
    metadata = {
        _VERSION_KEY: str(SEGMENT_FORMAT_VERSION),
        _PAYLOAD_DIGEST_KEY: digest_file(folder / PAYLOAD_FILE),
    }
    schema = pa.schema([("timestamp", pa.int64()), ("label", labels.type)], metadata=metadata)
    _write_file(folder / COLUMNS_FILE, pa.record_batch([pa.array(timestamps), canonical(labels)], schema=schema))
    fsync_directory(folder)
    fsync_directory(folder.parent)
    return SegmentInfo(
        name=folder.name,
        num_samples=len(timestamps),
        num_unlabelled=labels.null_count,
        min_timestamp=int(timestamps.min()),
        max_timestamp=int(timestamps.max()),
        payload_bytes=(folder / PAYLOAD_FILE).stat().st_size,
        columns_bytes=(folder / COLUMNS_FILE).stat().st_size,
        digest=digest_file(folder / COLUMNS_FILE),
    )


def open_segment(parent: Path, info: SegmentInfo) -> Segment:
    """Maps a segment into memory. Sizes and header are checked here, contents by :func:`verify_segment`.

    Raises:
        CorruptDataError: a file is missing, has another size, or is no segment of this format.
    """
    folder = parent / info.name
    payload = _map_file(folder / PAYLOAD_FILE, info.payload_bytes, info.num_samples)
    columns = _map_file(folder / COLUMNS_FILE, info.columns_bytes, info.num_samples)
    version = (columns.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != str(SEGMENT_FORMAT_VERSION):
        raise CorruptDataError(
            f"segment {folder} has format version {version}; this release reads {SEGMENT_FORMAT_VERSION}"
        )
    return Segment(payload, columns)


def verify_segment(parent: Path, info: SegmentInfo) -> None:
    """Reads a whole segment and compares its checksums.

    Raises:
        CorruptDataError: a byte differs from what was written; the message names the file.
    """
    folder = parent / info.name
    open_segment(parent, info)
    if digest_file(folder / COLUMNS_FILE) != info.digest:
        raise CorruptDataError(f"segment file {folder / COLUMNS_FILE} does not match its checksum {info.digest}")
    with pa.memory_map(str(folder / COLUMNS_FILE)) as file, pa.ipc.open_file(file) as reader:
        expected = (reader.schema.metadata or {})[_PAYLOAD_DIGEST_KEY].decode()
    if digest_file(folder / PAYLOAD_FILE) != expected:
        raise CorruptDataError(f"segment file {folder / PAYLOAD_FILE} does not match its checksum {expected}")


class SegmentCache:
    """Open segments of all datasets, the least recently used one closed first. Safe to use from many threads."""

    def __init__(self, max_open: int = MAX_OPEN_SEGMENTS) -> None:
        self._max_open = max_open
        self._open: OrderedDict[str, Segment] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, parent: Path, info: SegmentInfo) -> Segment:
        """An open segment. It stays valid for its holder even when it leaves the cache."""
        with self._lock:
            segment = self._open.get(info.name)
            if segment is not None:
                self._open.move_to_end(info.name)
                return segment
        segment = open_segment(parent, info)
        with self._lock:
            self._open[info.name] = segment
            while len(self._open) > self._max_open:
                self._open.popitem(last=False)
        return segment

    def clear(self) -> None:
        with self._lock:
            self._open.clear()


def _write_file(path: Path, batch: pa.RecordBatch) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    fsync_file(path)


def _map_file(path: Path, num_bytes: int, num_samples: int) -> pa.RecordBatch:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise CorruptDataError(
            f"segment file {path} cannot be read: {error.strerror}; restore it from a copy"
        ) from error
    if found != num_bytes:
        raise CorruptDataError(f"segment file {path} has {found} bytes; expected {num_bytes}; restore it from a copy")
    try:
        # Closing drops the file descriptor; the mapping lives as long as a column points into it.
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            batch = reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(f"segment file {path} cannot be decoded: {error}; restore it from a copy") from error
    if batch.num_rows != num_samples:
        raise CorruptDataError(f"segment file {path} has {batch.num_rows} samples; expected {num_samples}")
    return batch
