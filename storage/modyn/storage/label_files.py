"""Label files: later labels of some samples, immutable, checksummed and memory-mapped.

A label file is one uncompressed Arrow IPC record batch, sorted by (key, label time, version):

- ``key`` int64, ``label`` (nullable: a missing label withdraws an earlier one), ``label_time`` int64;
- in files that were merged from several batches also ``version`` and ``arrival`` int64. In the file of one batch they
  are the same for all rows, and the catalog's row says them.

The type of ``label`` is that of the batch it was written from; who reads it casts it to the dataset's.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import matches
from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import fsync_directory, write_batch
from modyn.storage.label_index import MAX_KEYS_PER_LABEL, KeyIndex
from modyn.storage.schema import canonical, cast_labels

LABEL_FORMAT_VERSION = 1

_VERSION_KEY = b"modyn.label_format"
_TIMES_KEY = b"modyn.label_times"
_UNIQUE_KEY = b"modyn.unique_keys"


@dataclass(frozen=True)
class LabelFileInfo:
    """What the catalog knows of a label file.

    Attributes:
        first_version, last_version: the label batches in it, both included.
        min_arrival, max_arrival: of these batches, Unix seconds.
        min_key, max_key: smallest and largest key; 0 and -1 if there is none.
    """

    name: str
    first_version: int
    last_version: int
    min_arrival: int
    max_arrival: int
    num_labels: int
    min_key: int
    max_key: int
    num_bytes: int
    digest: str


@dataclass(frozen=True, eq=False)
class LabelRows:
    """Versions of labels [m], sorted by (key, label time, version)."""

    keys: Int64Array
    labels: pa.Array
    label_times: Int64Array
    versions: Int64Array | None = None
    """None if the same for all."""
    arrivals: Int64Array | None = None
    """None if the same for all."""


@dataclass(frozen=True, eq=False)
class LabelFile:
    """An open label file; its columns point into a memory map, which outlives the file's name.

    Attributes:
        min_time, max_time: smallest and largest label time.
        unique: whether every key occurs once.
    """

    info: LabelFileInfo
    rows: LabelRows
    min_time: int
    max_time: int
    unique: bool

    @property
    def dense(self) -> bool:
        """Whether the keys are consecutive, so that a key's row is a subtraction away."""
        return self.unique and self.info.max_key - self.info.min_key + 1 == self.info.num_labels

    @property
    def indexable(self) -> bool:
        """Whether :attr:`index` takes no more memory than the keys do."""
        span = self.info.max_key - self.info.min_key + 1
        return span <= MAX_KEYS_PER_LABEL * self.info.num_labels

    @cached_property
    def index(self) -> KeyIndex:
        """Made when it is first needed, in about 3 ms a million keys."""
        return KeyIndex.of(self.rows.keys, unique=self.unique)

    def overlaps(self, first_key: int, end_key: int) -> bool:
        return self.info.min_key < end_key and self.info.max_key >= first_key

    def labels_at(self, rows: Int64Array, label_type: pa.DataType) -> pa.Array:
        """Labels of some rows as the dataset's type.

        Raises:
            CorruptDataError: they cannot be cast without loss.
        """
        return as_type(self.rows.labels.take(pa.array(rows)), label_type)


def as_type(labels: pa.Array, label_type: pa.DataType) -> pa.Array:
    """Labels as a dataset's type; labels that are all missing are of every type.

    Raises:
        CorruptDataError: the cast would lose something.
    """
    if labels.type != label_type and labels.null_count == len(labels):
        return pa.nulls(len(labels), label_type)
    return cast_labels(labels, label_type)


def file_path(parent: Path, name: str) -> Path:
    """Where a label file lies in the dataset's folder for them."""
    return parent / f"{name}.arrow"


def write_label_file(
    parent: Path, keys: Int64Array, labels: pa.Array, label_times: Int64Array, *, version: int, arrival: int
) -> LabelFileInfo:
    """Writes the labels of one batch; they are on disk (fsynced) when this returns.

    Args:
        parent: the dataset's folder of label files, made if missing.
        keys: int64 [n], ascending, each once; n may be 0.
        labels: [n], nullable.
        label_times: int64 [n], Unix seconds.
        version, arrival: of the batch. They are not in the file: if they turn out otherwise at the commit, they are
            replaced in the answer alone.

    Raises:
        UnavailableError: the disk is full or not writable; nothing is left of the file.
    """
    return write_rows(parent, LabelRows(keys, labels, label_times), (version, version), (arrival, arrival))


def delete_label_file(parent: Path, name: str) -> None:
    """Deletes a file that is not, or no longer, in the catalog. Who has it open can still read it."""
    file_path(parent, name).unlink(missing_ok=True)


def open_label_file(parent: Path, info: LabelFileInfo) -> LabelFile:
    """Maps a label file into memory. Size, header and bounds are checked here, contents by :func:`verify_label_file`.

    Raises:
        CorruptDataError: the file is missing, has another size, or is no label file of this format.
    """
    path = file_path(parent, info.name)
    batch = _map(path, info.num_bytes)
    metadata = batch.schema.metadata or {}
    found = metadata.get(_VERSION_KEY, b"none").decode()
    if found != str(LABEL_FORMAT_VERSION):
        raise CorruptDataError(f"label file {path} has format version {found}; this release reads version 1")
    keys = batch.column(0).to_numpy()
    bounds = (int(keys[0]), int(keys[-1])) if len(keys) else (0, -1)
    if (len(keys), *bounds) != (info.num_labels, info.min_key, info.max_key):
        raise CorruptDataError(
            f"label file {path} has {len(keys)} labels of keys {bounds[0]} to {bounds[1]}; expected {info.num_labels} "
            f"of keys {info.min_key} to {info.max_key}; restore it from a copy"
        )
    merged = batch.num_columns > 3
    rows = LabelRows(
        keys,
        batch.column(1),
        batch.column(2).to_numpy(),
        batch.column(3).to_numpy() if merged else None,
        batch.column(4).to_numpy() if merged else None,
    )
    min_time, max_time = map(int, metadata[_TIMES_KEY].split())
    return LabelFile(info, rows, min_time, max_time, metadata[_UNIQUE_KEY] == b"1")


def verify_label_file(parent: Path, info: LabelFileInfo) -> None:
    """Reads a whole label file and compares its checksum.

    Raises:
        CorruptDataError: a byte differs from what was written; the message names the file.
    """
    open_label_file(parent, info)
    path = file_path(parent, info.name)
    try:
        intact = matches(path, info.digest)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not intact:
        raise CorruptDataError(
            f"label file {path} does not match its checksum {info.digest}; restore it from a copy, or send its label "
            "batches again under new batch ids"
        )


def write_rows(parent: Path, rows: LabelRows, versions: tuple[int, int], arrivals: tuple[int, int]) -> LabelFileInfo:
    """Writes sorted rows as a new file; see :func:`write_label_file`.

    Args:
        rows: with versions and arrivals if they come from several batches.
        versions: first and last label batch in it.
        arrivals: the earliest and latest of these batches.
    """
    name = uuid.uuid4().hex
    path = file_path(parent, name)
    try:
        is_new = not parent.is_dir()
        parent.mkdir(parents=True, exist_ok=True)
        num_bytes, digest = write_batch(path, _batch(rows))
        fsync_directory(parent)
        if is_new:
            fsync_directory(parent.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise UnavailableError(
            f"cannot write labels to {parent}: {reason}; nothing was committed. Free or add disk space and try again"
        ) from error
    length = len(rows.keys)
    return LabelFileInfo(
        name=name,
        first_version=versions[0],
        last_version=versions[1],
        min_arrival=arrivals[0],
        max_arrival=arrivals[1],
        num_labels=length,
        min_key=int(rows.keys[0]) if length else 0,
        max_key=int(rows.keys[-1]) if length else -1,
        num_bytes=num_bytes,
        digest=digest,
    )


def _batch(rows: LabelRows) -> pa.RecordBatch:
    times = rows.label_times
    span = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    metadata = {
        _VERSION_KEY: str(LABEL_FORMAT_VERSION),
        _TIMES_KEY: f"{span[0]} {span[1]}",
        _UNIQUE_KEY: "1" if bool((rows.keys[1:] > rows.keys[:-1]).all()) else "0",
    }
    columns = {"key": pa.array(rows.keys), "label": canonical(rows.labels), "label_time": pa.array(times)}
    if rows.versions is not None:
        columns |= {"version": pa.array(rows.versions), "arrival": pa.array(rows.arrivals)}
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=metadata)
    return pa.record_batch(list(columns.values()), schema=schema)


def _map(path: Path, num_bytes: int) -> pa.RecordBatch:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    if size != num_bytes:
        raise CorruptDataError(f"label file {path} has {size} bytes; expected {num_bytes}; restore it from a copy")
    try:
        # Closing drops the file descriptor; the mapping lives as long as a column points into it.
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            batch = reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(f"label file {path} cannot be decoded: {error}; restore it from a copy") from error
    names = ["key", "label", "label_time", "version", "arrival"]
    if batch.schema.names not in (names, names[:3]):
        raise CorruptDataError(f"label file {path} has columns {batch.schema.names}; expected {names}")
    return batch


def _unreadable(path: Path, error: OSError) -> CorruptDataError:
    return CorruptDataError(f"label file {path} cannot be read: {error.strerror or error}; restore it from a copy")


def in_version_order(infos: Sequence[LabelFileInfo]) -> bool:
    """Whether every file's batches come after those of the file before it."""
    return all(old.last_version < new.first_version for old, new in itertools.pairwise(infos))
