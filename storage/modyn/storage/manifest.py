"""Manifests: which files the keys of a scan came from. One Arrow file per scan, never a catalog row per file.

``files.arrow`` has one row per run of consecutive keys of one file: ``path`` (relative to the source), ``size``,
``mtime_ns``, ``first_row`` and ``num_samples``. Rows count from the commit's first key, which is only known once it is
committed. A file without samples has one run of none. ``superseded.arrow`` holds the key ranges (``start``, ``end``)
that the scan's changed files superseded, ``companions.arrow`` the versions of companion files, such as label files,
that were read (``path``, ``seen``), and ``removed.arrow`` the files (``path``) that no longer hold samples.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import fsync_directory, write_batch

FILES = "files.arrow"
SUPERSEDED = "superseded.arrow"
COMPANIONS = "companions.arrow"
REMOVED = "removed.arrow"


@dataclass(frozen=True)
class FileVersion:
    """A file as it was when it was read: its identity, by which a change is noticed."""

    path: str
    """Relative to the source's folder, with forward slashes."""
    size: int
    mtime_ns: int


@dataclass(frozen=True, eq=False)
class FileRuns:
    """Runs of consecutive rows of one file each; arrays have one entry per run.

    Attributes:
        files: all files of the scan.
        file_of_run: index into ``files``.
    """

    files: list[FileVersion]
    file_of_run: Int64Array
    first_rows: Int64Array
    lengths: Int64Array

    @staticmethod
    def of_rows(files: list[FileVersion], file_of_row: Int64Array) -> FileRuns:
        """Runs of rows in key order; files without a row get a run of none."""
        changes = np.flatnonzero(np.diff(file_of_row)) + 1
        first_rows = np.concatenate(([0], changes)) if len(file_of_row) else np.empty(0, dtype=np.int64)
        lengths = np.diff(np.append(first_rows, len(file_of_row))).astype(np.int64)
        used = file_of_row[first_rows] if len(file_of_row) else np.empty(0, dtype=np.int64)
        without = np.setdiff1d(np.arange(len(files)), used)
        return FileRuns(
            files,
            np.concatenate((used, without)),
            np.concatenate((first_rows, np.zeros(len(without), dtype=np.int64))),
            np.concatenate((lengths, np.zeros(len(without), dtype=np.int64))),
        )


def write_manifest(
    parent: Path,
    runs: FileRuns,
    superseded: tuple[Int64Array, Int64Array],
    companions: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
) -> str:
    """Writes a manifest into a new folder of ``parent``, fsynced; the folder's name.

    Args:
        companions: versions of companion files by the path of the file they belong to.
        removed: files that no longer hold samples.

    Raises:
        UnavailableError: the disk is full or not writable; nothing is left of it.
    """
    folder = parent / uuid.uuid4().hex
    try:
        folder.mkdir(parents=True)
        write_batch(folder / FILES, _files_batch(runs))
        starts, ends = superseded
        if len(starts):
            write_batch(
                folder / SUPERSEDED, pa.record_batch([pa.array(starts), pa.array(ends)], names=["start", "end"])
            )
        if companions:
            columns = [pa.array(list(companions), pa.string()), pa.array(list(companions.values()), pa.string())]
            write_batch(folder / COMPANIONS, pa.record_batch(columns, names=["path", "seen"]))
        if removed:
            write_batch(folder / REMOVED, pa.record_batch([pa.array(removed, pa.string())], names=["path"]))
        fsync_directory(folder)
        fsync_directory(parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnavailableError(
            f"cannot write to {parent}: {error.strerror or error}; nothing was committed. "
            "Free or add disk space and try again"
        ) from error
    return folder.name


def _files_batch(runs: FileRuns) -> pa.RecordBatch:
    paths = pa.DictionaryArray.from_arrays(
        pa.array(runs.file_of_run.astype(np.int32)), pa.array([file.path for file in runs.files], pa.string())
    )
    sizes = np.array([file.size for file in runs.files], dtype=np.int64)
    times = np.array([file.mtime_ns for file in runs.files], dtype=np.int64)
    table = {
        "path": paths,
        "size": pa.array(sizes[runs.file_of_run]),
        "mtime_ns": pa.array(times[runs.file_of_run]),
        "first_row": pa.array(runs.first_rows),
        "num_samples": pa.array(runs.lengths),
    }
    return pa.record_batch(list(table.values()), names=list(table))


def read_companions(folder: Path) -> dict[str, str]:
    """Versions of companion files that a scan read, by the path of the file they belong to."""
    if not (folder / COMPANIONS).exists():
        return {}
    batch = _read(folder / COMPANIONS)
    return dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))


def read_removed(folder: Path) -> list[str]:
    """Files that held no samples any more when a scan looked."""
    if not (folder / REMOVED).exists():
        return []
    paths: list[str] = _read(folder / REMOVED).column(0).to_pylist()
    return paths


def read_files(folder: Path) -> list[FileVersion]:
    """The files of a scan."""
    batch = _read(folder / FILES)
    encoded = batch.column("path")
    _, first = np.unique(encoded.indices.to_numpy(), return_index=True)
    distinct = batch.take(pa.array(first))
    return [
        FileVersion(path, size, mtime_ns)
        for path, size, mtime_ns in zip(
            distinct.column("path").dictionary_decode().to_pylist(),
            distinct.column("size").to_pylist(),
            distinct.column("mtime_ns").to_pylist(),
            strict=True,
        )
    ]


def read_runs(folder: Path, paths: Iterable[str], first_key: int) -> tuple[Int64Array, Int64Array]:
    """Key ranges (starts, ends) of some files of a scan, ascending."""
    batch = _read(folder / FILES)
    found = batch.filter(pc.is_in(batch.column("path").dictionary_decode(), pa.array(list(paths), pa.string())))
    starts = found.column("first_row").to_numpy() + first_key
    lengths = found.column("num_samples").to_numpy()
    order = np.argsort(starts[lengths > 0], kind="stable")
    starts, lengths = starts[lengths > 0][order], lengths[lengths > 0][order]
    return starts, starts + lengths


def read_keys(folder: Path, paths: Sequence[str], first_key: int) -> dict[str, Int64Array]:
    """Keys of the samples of some files of a scan, int64 [n] each, ascending."""
    batch = _read(folder / FILES)
    encoded = batch.column("path")
    wanted = pc.index_in(encoded.dictionary, pa.array(paths, pa.string())).fill_null(-1).to_numpy()
    place_of_run = wanted[encoded.indices.to_numpy()]
    runs = np.flatnonzero(place_of_run >= 0)
    starts = batch.column("first_row").to_numpy()[runs] + first_key
    lengths = batch.column("num_samples").to_numpy()[runs]
    runs_of: dict[str, list[Int64Array]] = {path: [] for path in paths}
    for place, start, length in zip(place_of_run[runs].tolist(), starts.tolist(), lengths.tolist(), strict=True):
        runs_of[paths[place]].append(np.arange(start, start + length))
    return {path: np.sort(np.concatenate(keys)) for path, keys in runs_of.items()}


def paths_with(folder: Path, starts: Int64Array, ends: Int64Array, first_key: int) -> list[str]:
    """The files of a scan that samples of some ascending disjoint key ranges came from."""
    batch = _read(folder / FILES)
    first = batch.column("first_row").to_numpy() + first_key
    after = first + batch.column("num_samples").to_numpy()
    nearest = np.searchsorted(ends, first, side="right")  # the first range that ends behind a run's first key
    held = (np.append(starts, np.iinfo(np.int64).max)[nearest] < after) & (after > first)
    encoded = batch.column("path")
    used = np.unique(encoded.indices.to_numpy()[held])
    paths: list[str] = encoded.dictionary.take(pa.array(used)).to_pylist()
    return paths


def read_superseded(folder: Path) -> tuple[Int64Array, Int64Array]:
    """The key ranges (starts, ends) that a scan superseded."""
    batch = _read(folder / SUPERSEDED)
    return batch.column("start").to_numpy(), batch.column("end").to_numpy()


def _read(path: Path) -> pa.RecordBatch:
    try:
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(f"manifest {path} cannot be read: {error}; restore it from a copy") from error
