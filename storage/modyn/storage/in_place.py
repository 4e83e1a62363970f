"""Segments whose samples stay in the source's own files.

Beside ``columns.arrow`` (:mod:`modyn.storage.segments`) such a segment has

- ``files.arrow``, one row per file: ``path``, ``origin``, ``where`` (see below), ``size``, ``mtime_ns``, ``checksum``,
  ``layout`` and ``parts``, how many parts the file has; its metadata holds the payload's schema;
- ``places.arrow``, one row per run of consecutive rows of one part: ``first_row`` in the segment, ``part``, ``row`` in
  it;
- ``files/``: hard links to the source's files where those are on the same file system, so that the samples outlive a
  file that is deleted or replaced by renaming another over it.

A file is ``linked`` (``path`` is the link's name), ``local`` (an absolute path: on another file system, or one of very
many single-sample files) or ``remote`` (a URI, fetched into a cache).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import checksum_bytes
from modyn.core.errors import CorruptDataError, NotAvailableError
from modyn.core.files import fsync_directory, fsync_file, write_batch
from modyn.core.plugins.formats import ArrowLayout, FixedColumn, RecordLayout, WholeFileLayout
from modyn.storage.parts import BatchPart, FileColumn, FilesPart, LostPart, Mapping, Part, RecordsPart, map_file
from modyn.storage.segments import (
    IN_PLACE,
    Columns,
    Fetch,
    Places,
    SegmentInfo,
    finish_segment,
    header,
    new_segment,
    read_batch,
)

FILES_FILE = "files.arrow"
PLACES_FILE = "places.arrow"
LINKS_FOLDER = "files"

LINKED, LOCAL, REMOTE = "linked", "local", "remote"

SCHEMA_KEY = b"modyn.payload_schema"
PLACES_DIGEST_KEY = b"modyn.places_digest"

Layout = RecordLayout | ArrowLayout | WholeFileLayout


@dataclass(frozen=True, eq=False)
class PlacedFile:
    """A file of the source whose samples are to be read where they are.

    Attributes:
        location: absolute local path at the time of ingest.
        uri: where to fetch it from again; None for a local file.
        part_rows: number of rows of each of its parts.
    """

    location: str
    uri: str | None
    size: int
    mtime_ns: int
    checksum: str
    layout: Layout
    part_rows: tuple[int, ...]


def part_rows_of(layout: Layout, num_rows: int, location: str) -> tuple[int, ...]:
    """Rows of each part of a file: of its record batches, or of the file as a whole.

    Files that are one sample each are together one part, whose rows they are.
    """
    if not isinstance(layout, ArrowLayout):
        return (num_rows,)
    with pa.memory_map(location) as file, pa.ipc.open_file(file) as reader:
        return tuple(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))


def write_in_place_segment(
    parent: Path,
    files: Sequence[PlacedFile],
    places: tuple[Int64Array, Int64Array],
    columns: Columns,
    schema: pa.Schema,
) -> SegmentInfo:
    """Writes a segment of n samples that stay in files; it is durable when this returns, and so are the files.

    Args:
        places: part of each sample, counted over all parts of all files, and its row in that; int64 [n] each.

    Raises:
        UnavailableError: the disk is full or not writable; nothing is left of the segment.
    """
    with new_segment(parent) as folder:
        batch = _files_batch(folder, files, schema)
        files_bytes, files_digest = write_batch(folder / FILES_FILE, batch)
        places_bytes, places_digest = write_batch(folder / PLACES_FILE, _places_batch(*places))
        # What identifies the samples' bytes, wherever the files are.
        said = json.dumps([[file.size, file.checksum, _layout_text(file.layout)] for file in files]).encode()
        return finish_segment(
            folder,
            columns,
            payload_bytes=files_bytes + places_bytes,
            payload_digest=checksum_bytes(said, places_digest.encode()),
            kind=IN_PLACE,
            metadata={PLACES_DIGEST_KEY: f"{files_digest} {places_digest}"},
        )


def open_places(folder: Path, info: SegmentInfo, fetch: Fetch | None) -> tuple[tuple[Part, ...], Places]:
    """The parts of a segment, and where its rows lie in them. A source's file that is missing or was changed makes lost
    parts.

    Raises:
        CorruptDataError: a file of our own is damaged.
    """
    places = _read(folder / PLACES_FILE)
    first_rows, parts, rows = (places.column(index).to_numpy() for index in range(3))
    files = read_files(folder)
    schema = pa.ipc.read_schema(pa.py_buffer(files.schema.metadata[SCHEMA_KEY]))
    opened: tuple[Part, ...]
    if files.num_rows and files.column("layout")[0].as_py() == _layout_text(WholeFileLayout()):
        opened = (FilesPart(_file_column(files)),)  # each file is a row
    else:
        opened = tuple(part for file in files.to_pylist() for part in _open(folder, file, schema, fetch))
    return opened, Places(first_rows, parts, rows)


def read_files(folder: Path) -> pa.RecordBatch:
    """The table of a segment's files."""
    return _read(folder / FILES_FILE)


class StoredFile(NamedTuple):
    """A file that samples of a segment lie in.

    Attributes:
        path: local path, or URI of a remote file.
        size: bytes.
    """

    where: str
    path: str
    size: int
    mtime_ns: int
    checksum: str


def source_files(folder: Path) -> Iterator[StoredFile]:
    """The files of a segment."""
    for file in read_files(folder).to_pylist():
        path = str(folder / LINKS_FOLDER / file["path"]) if file["where"] == LINKED else file["path"]
        yield StoredFile(file["where"], path, file["size"], file["mtime_ns"], file["checksum"])


def digests_of(columns: pa.RecordBatch) -> list[str]:
    """Checksums of ``files.arrow`` and ``places.arrow``, as the columns file says."""
    return header(columns, PLACES_DIGEST_KEY).split()


def _files_batch(folder: Path, files: Sequence[PlacedFile], schema: pa.Schema) -> pa.RecordBatch:
    paths, where = [], []
    for index, file in enumerate(files):
        place, path = _placed(folder, index, file)
        where.append(place)
        paths.append(path)
    if LINKED in where:
        fsync_directory(folder / LINKS_FOLDER)
    for parent in {os.path.dirname(path) for path, place in zip(paths, where, strict=True) if place == LOCAL}:
        fsync_directory(Path(parent))
    columns = {
        "path": pa.array(paths, pa.string()),
        "origin": pa.array([file.uri or file.location for file in files], pa.string()),
        "where": pa.array(where, pa.string()).dictionary_encode(),
        "size": pa.array([file.size for file in files], pa.int64()),
        "mtime_ns": pa.array([file.mtime_ns for file in files], pa.int64()),
        "checksum": pa.array([file.checksum for file in files], pa.string()),
        "layout": pa.array([_layout_text(file.layout) for file in files], pa.string()).dictionary_encode(),
        "parts": pa.array([len(file.part_rows) for file in files], pa.int64()),
    }
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    return batch.replace_schema_metadata({SCHEMA_KEY: schema.serialize().to_pybytes()})


def _placed(folder: Path, index: int, file: PlacedFile) -> tuple[str, str]:
    if file.uri is not None:
        return REMOTE, file.uri
    fsync_file(Path(file.location))  # whoever wrote it may not have
    if isinstance(file.layout, WholeFileLayout):  # a link for each of a million files would cost more than it helps
        return LOCAL, file.location
    (folder / LINKS_FOLDER).mkdir(exist_ok=True)
    name = f"{index}"
    try:
        os.link(file.location, folder / LINKS_FOLDER / name)
    except OSError:  # another file system, or not ours to link
        return LOCAL, file.location
    return LINKED, name


def _places_batch(part_of_row: Int64Array, row_in_part: Int64Array) -> pa.RecordBatch:
    breaks = (np.diff(row_in_part) != 1) | (np.diff(part_of_row) != 0)
    first_rows = np.concatenate(([0], np.flatnonzero(breaks) + 1)).astype(np.int64)
    arrays = [first_rows, part_of_row[first_rows].astype(np.int32), row_in_part[first_rows]]
    return pa.record_batch([pa.array(array) for array in arrays], names=["first_row", "part", "row"])


def _open(folder: Path, file: dict[str, Any], schema: pa.Schema, fetch: Fetch | None) -> Iterator[Part]:
    layout = _layout(file["layout"], schema)
    path: str = file["path"]
    mtime_ns: int | None = file["mtime_ns"]
    if file["where"] == LINKED:
        path = str(folder / LINKS_FOLDER / path)
    elif file["where"] == REMOTE:
        if fetch is None:
            raise NotAvailableError(f"{path} can only be read by the storage service")
        mtime_ns = None  # the copy is ours
    try:
        if file["where"] == REMOTE and fetch is not None:
            path = fetch(path, file["size"], file["mtime_ns"])
        mapping = map_file(path, file["size"], mtime_ns, linked=file["where"] == LINKED, origin=file["origin"])
        parts: list[Part] = [RecordsPart(layout, mapping)] if isinstance(layout, RecordLayout) else []
        if isinstance(layout, ArrowLayout):
            parts += _batch_parts(mapping, layout)
    except CorruptDataError as error:  # samples of other files are read as before
        parts = [LostPart(error)] * file["parts"]
    yield from parts


def _batch_parts(mapping: Mapping, layout: ArrowLayout) -> Iterator[Part]:
    try:
        with pa.ipc.open_file(pa.BufferReader(mapping.buffer)) as reader:
            for index in range(reader.num_record_batches):
                yield BatchPart(reader.get_batch(index).select(list(layout.columns)), mapping)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(f"file {mapping.path} cannot be decoded any more: {error}") from error


def _file_column(files: pa.RecordBatch) -> FileColumn:
    return FileColumn(
        files.column("path").to_pylist(), files.column("size").to_numpy(), files.column("mtime_ns").to_numpy()
    )


def _layout_text(layout: Layout) -> str:
    if isinstance(layout, RecordLayout):
        columns = [[column.name, column.width, column.offset, column.stride] for column in layout.columns]
        return json.dumps({"kind": "records", "rows": layout.num_rows, "columns": columns})
    if isinstance(layout, ArrowLayout):
        return json.dumps({"kind": "arrow", "columns": list(layout.columns)})
    return json.dumps({"kind": "file"})


def _layout(text: str, schema: pa.Schema) -> Layout:
    said = json.loads(text)
    if said["kind"] == "records":
        columns = (
            FixedColumn(name, schema.field(name).type, width, offset, stride)
            for name, width, offset, stride in said["columns"]
        )
        return RecordLayout(said["rows"], tuple(columns))
    if said["kind"] == "arrow":
        return ArrowLayout(tuple(said["columns"]))
    return WholeFileLayout()


def _read(path: Path) -> pa.RecordBatch:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CorruptDataError(
            f"segment file {path} cannot be read: {error.strerror}; restore it from a copy"
        ) from error
    return read_batch(map_file(path, size))
