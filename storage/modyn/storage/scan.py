"""Scanning a source: reading new files into one commit, in an order that does not depend on threads."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import CancelledError, ConflictError, CorruptDataError
from modyn.core.plugins.formats import FileSamples, SourceFormat
from modyn.storage.catalog import NewCommit, QuarantineRow
from modyn.storage.dataset import NO_RANGES, Dataset
from modyn.storage.folder import SourceFile, identity_of
from modyn.storage.known import KnownFiles
from modyn.storage.manifest import FileRuns, write_manifest
from modyn.storage.staging import Staging

logger = logging.getLogger(__name__)

READ_THREADS = min(4, os.cpu_count() or 1)
CHUNK_FILES = 64
CHUNK_BYTES = 32 << 20
"""Small files are read in threads, this many or this much at a time; larger ones one after the other, in pieces."""

MAX_REASON_CHARS = 1_000


@dataclass
class ScanProgress:
    """How far a scan is."""

    files_total: int
    files_done: int = 0
    samples: int = 0
    quarantined: int = 0
    left: int = 0
    """Files that changed while they were read."""


@dataclass
class _Taken:
    """Files read so far, in path order."""

    files: list[SourceFile] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    bad: list[QuarantineRow] = field(default_factory=list)


_Outcome = list[FileSamples] | CorruptDataError | FileNotFoundError


def scan(dataset: Dataset, source: SourceFormat, files: list[SourceFile], known: KnownFiles) -> Iterator[ScanProgress]:
    """Reads files and commits their samples at once, keys in (timestamp, path, position) order.

    Files that cannot be read are quarantined; files that changed while they were read are left for the next scan.
    The caller holds the dataset's scan lock.
    """
    progress = ScanProgress(files_total=len(files))
    files = sorted(files, key=lambda file: file.name)
    staging = Staging(dataset.folder, dataset.snapshot.schema)
    taken = _Taken()
    try:
        for file, pieces in _read_all(source, files, staging):
            if dataset.closed:
                raise CancelledError(f"the storage service stops; ingest of {dataset.name!r} goes on when it is back")
            _take(file, pieces, staging, taken)
            progress.files_done += 1
            progress.samples = staging.num_rows
            progress.quarantined = len(taken.bad)
            progress.left = progress.files_done - len(taken.files) - len(taken.bad)
            yield progress
        _commit(dataset, staging, taken, known)
        yield progress
    finally:
        staging.close()


def _take(file: SourceFile, pieces: Iterator[FileSamples], staging: Staging, taken: _Taken) -> None:
    mark = staging.mark()
    try:
        for piece in pieces:
            staging.add(piece, default_timestamp=file.mtime_ns // 1_000_000_000)
        if identity_of(file.location) != (file.size, file.mtime_ns):
            raise FileNotFoundError(file.location)
    except FileNotFoundError:
        staging.roll_back(mark)
        logger.info("%s changed or vanished while it was read; it is looked at again later", file.location)
    except CorruptDataError as error:
        staging.roll_back(mark)
        logger.warning("%s is quarantined: %s", file.location, error.message)
        reason = error.message.replace("\0", "\\0")[:MAX_REASON_CHARS]
        taken.bad.append(QuarantineRow(file.name, file.size, file.mtime_ns, file.ctime_ns, reason, at=int(time.time())))
    else:
        taken.files.append(file)
        taken.starts.append(mark.rows)


def _commit(dataset: Dataset, staging: Staging, taken: _Taken, known: KnownFiles) -> None:
    if taken.bad:
        known.quarantine(taken.bad)
    if not taken.files:
        return
    order = staging.order(by_time=True)
    infos = staging.write(order)
    versions = [file.version for file in taken.files]
    runs = FileRuns.of_rows(versions, _file_of_row(taken.starts, order))
    superseded = known.superseded_by(versions)
    manifest = write_manifest(dataset.scans_folder, runs, superseded)
    num_superseded = int((superseded[1] - superseded[0]).sum())
    new = NewCommit(
        infos,
        staging.schema,
        manifest=manifest,
        num_new_files=known.count_new(versions),
        num_superseded=num_superseded,
        released=known.quarantined_among(versions),
    )
    try:
        dataset.commit(new, superseded if num_superseded else NO_RANGES)
    except (ConflictError, CancelledError):  # after any other error the commit may have taken place
        staging.discard(infos)
        raise
    if num_superseded:
        logger.info("dataset %r: %d samples of changed files are superseded", dataset.name, num_superseded)
    known.add(versions, manifest)


def _file_of_row(starts: list[int], order: Int64Array) -> Int64Array:
    # Files without samples share their start with the next file, which "right" skips past them to.
    return np.searchsorted(np.array(starts, dtype=np.int64), order, side="right").astype(np.int64) - 1


def _read_all(
    source: SourceFormat, files: list[SourceFile], staging: Staging
) -> Iterator[tuple[SourceFile, Iterator[FileSamples]]]:
    """Every file with its samples, in the given order, whatever the number of threads."""
    rest = deque(files)
    while rest and staging.schema.payload is None:  # the first samples decide how later files are read
        file = rest.popleft()
        yield file, _pieces(source, file, staging)
    if not rest:
        return
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="scan") as pool:
        chunks = iter(_chunks(list(rest)))
        running: deque[tuple[list[SourceFile], Future[list[_Outcome]] | None]] = deque()
        try:
            while True:
                while len(running) <= READ_THREADS and (chunk := next(chunks, None)) is not None:
                    small = len(chunk) > 1 or chunk[0].size <= CHUNK_BYTES
                    running.append((chunk, pool.submit(_read_chunk, source, chunk, staging) if small else None))
                if not running:
                    return
                chunk, future = running.popleft()
                if future is None:
                    yield chunk[0], _pieces(source, chunk[0], staging)
                    continue
                for file, outcome in zip(chunk, future.result(), strict=True):
                    yield file, _replayed(outcome)
        finally:
            for _, future in running:
                if future is not None:
                    future.cancel()


def _chunks(files: list[SourceFile]) -> Iterator[list[SourceFile]]:
    chunk: list[SourceFile] = []
    size = 0
    for file in files:
        if chunk and (len(chunk) >= CHUNK_FILES or size + file.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(file)
        size += file.size
    if chunk:
        yield chunk


def _read_chunk(source: SourceFormat, files: list[SourceFile], staging: Staging) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    for file in files:
        try:
            outcomes.append(list(_pieces(source, file, staging)))
        except (CorruptDataError, FileNotFoundError) as error:
            outcomes.append(error)
    return outcomes


def _replayed(outcome: _Outcome) -> Iterator[FileSamples]:
    if isinstance(outcome, Exception):
        raise outcome
    yield from outcome


def _pieces(source: SourceFormat, file: SourceFile, staging: Staging) -> Iterator[FileSamples]:
    if file.size == 0:
        return  # holds no samples in any format
    try:
        yield from source.read(file.path, staging.schema.payload)
    except (CorruptDataError, FileNotFoundError, MemoryError):
        raise
    except OSError as error:
        raise CorruptDataError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a format's defect must not stop the other files
        logger.exception("format %r failed on %s", source.plugin_name, file.path)
        raise CorruptDataError(f"format {source.plugin_name!r} failed: {type(error).__name__}: {error}") from error
