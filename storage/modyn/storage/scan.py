"""Scanning a source: reading new files into one commit, in an order that does not depend on threads."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CancelledError, CorruptDataError, ModynError, UnavailableError
from modyn.core.plugins.formats import FileSamples, InPlaceSamples, RecordLayout, SourceFormat, WholeFileLayout
from modyn.proto.storage_pb2 import Role
from modyn.storage.catalog import QuarantineRow
from modyn.storage.dataset import Dataset
from modyn.storage.folder import SourceFile
from modyn.storage.formats.single_files import WholeFiles
from modyn.storage.in_place import PlacedFile
from modyn.storage.index import KeyRuns
from modyn.storage.known import KnownFiles, seen_as
from modyn.storage.manifest import FileRuns, write_manifest
from modyn.storage.placing import FoundFile, Placing, found_file
from modyn.storage.segments import SegmentInfo
from modyn.storage.staging import StagedSchema, Staging
from modyn.storage.writing import NewScan, Writer

logger = logging.getLogger(__name__)

READ_THREADS = min(4, os.cpu_count() or 1)
CHUNK_FILES = 64
CHUNK_BYTES = 32 << 20
"""Small files are read in threads, this many or this much at a time; larger ones one after the other, in pieces."""

MAX_REASON_CHARS = 1_000

MANY_FILES = 64
SMALL_FILE_BYTES = 256 << 10
"""More than so many files of less than this size on average are copied into segments rather than read in place."""


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
    left: int = 0

    def accept(self, file: SourceFile, first_row: int) -> None:
        self.files.append(file)
        self.starts.append(first_row)

    def refuse(self, file: SourceFile, error: CorruptDataError | FileNotFoundError) -> None:
        if isinstance(error, FileNotFoundError):
            self.left += 1
            logger.info("%s changed or vanished while it was read; it is looked at again later", file.name)
            return
        logger.warning("%s is quarantined: %s", file.name, error.message)
        reason = error.message.replace("\0", "\\0")[:MAX_REASON_CHARS]
        self.bad.append(QuarantineRow(file.name, file.size, file.mtime_ns, file.ctime_ns, reason, at=int(time.time())))

    def report(self, progress: ScanProgress, num_rows: int) -> None:
        progress.files_done += 1
        progress.samples = num_rows
        progress.quarantined = len(self.bad)
        progress.left = self.left


_Outcome = list[FileSamples] | CorruptDataError | FileNotFoundError
_Found = FoundFile | None | CorruptDataError | FileNotFoundError


def scan(writer: Writer, source: SourceFormat, files: list[SourceFile], known: KnownFiles) -> Iterator[ScanProgress]:
    """Reads files and commits their samples at once, keys in (timestamp, path, position) order.

    Samples stay in their files if that is possible for all of these; otherwise all are written into segments of our
    own. Files that cannot be read are quarantined; files that changed while they were read are left for the next scan.
    The caller holds the dataset's scan lock.
    """
    writer.begin()
    known.refresh()  # another process may have ingested some until now
    files = sorted((file for file in files if known.is_new(file)), key=lambda file: file.name)
    progress = ScanProgress(files_total=len(files))
    if stays_in_place(source, files) and (yield from _scan_in_place(writer, source, files, known, progress)):
        return
    progress.files_done = progress.samples = progress.quarantined = progress.left = 0
    yield from _scan_into_segments(writer, source, files, known, progress)


def stays_in_place(source: SourceFormat, files: list[SourceFile]) -> bool:
    """Whether it is worth trying: one segment is better than a map for each of many small files."""
    if type(source).in_place is SourceFormat.in_place:
        return False
    small = sum(file.size for file in files) < SMALL_FILE_BYTES * len(files)
    return len(files) <= MANY_FILES or not small or (isinstance(source, WholeFiles) and not source.pack)


def _scan_in_place(
    writer: Writer, source: SourceFormat, files: list[SourceFile], known: KnownFiles, progress: ScanProgress
) -> Generator[ScanProgress, None, bool]:
    """Whether it was possible; nothing was done otherwise."""
    dataset = writer.dataset
    placing = Placing(dataset.folder, dataset.snapshot.schema)
    taken = _Taken()
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="scan") as pool:
        chunks = [files[start : start + CHUNK_FILES] for start in range(0, len(files), CHUNK_FILES)]
        small = len(files) > CHUNK_FILES
        found = (
            (outcome for outcomes in pool.map(partial(_find_chunk, source), chunks) for outcome in outcomes)
            if small
            else pool.map(partial(_find, source), files)
        )
        for file, outcome in zip(files, found, strict=True):
            if dataset.closed:
                raise _stopping(dataset)
            if outcome is None:
                pool.shutdown(cancel_futures=True)
                return False
            start = placing.num_rows
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                if outcome is not _EMPTY:
                    placing.add(outcome, source.file_time(file.name, file.mtime_ns), _role(source, file, dataset.role))
            except (CorruptDataError, FileNotFoundError) as error:
                taken.refuse(file, error)
            else:
                taken.accept(file, start)
            file.release(keep=True)
            taken.report(progress, placing.num_rows)
            yield progress
    _commit(writer, placing.write(), placing.schema, taken, known)
    yield progress
    return True


def _scan_into_segments(
    writer: Writer, source: SourceFormat, files: list[SourceFile], known: KnownFiles, progress: ScanProgress
) -> Iterator[ScanProgress]:
    dataset = writer.dataset
    staging = Staging(dataset.folder, dataset.snapshot.schema)
    taken = _Taken()
    failure: UnavailableError | None = None
    try:
        try:
            for file, pieces in _read_all(source, files, staging):
                if dataset.closed:
                    raise _stopping(dataset)
                _stage(source, file, pieces, (staging, dataset.role), taken)
                taken.report(progress, staging.num_rows)
                yield progress
        except UnavailableError as error:  # such as a bucket out of reach: what was read so far need not be read again
            failure = error
        order = staging.order(by_time=True)
        written = staging.write(order) if taken.files else []
        _commit(writer, (written, order), staging.schema, taken, known)
        yield progress
    finally:
        staging.close()
    if failure is not None:
        raise failure


def _stage(
    source: SourceFormat, file: SourceFile, pieces: Iterator[FileSamples], into: tuple[Staging, int], taken: _Taken
) -> None:
    """Reads one file into a staging; ``into`` also says the dataset's role."""
    staging, dataset_role = into
    mark = staging.mark()
    try:
        seconds, role = source.file_time(file.name, file.mtime_ns), _role(source, file, dataset_role)
        for piece in pieces:
            staging.add(piece, seconds, role)
        if not file.is_unchanged():
            raise FileNotFoundError(file.location)
    except (CorruptDataError, FileNotFoundError) as error:
        staging.roll_back(mark)
        taken.refuse(file, error)
    except UnavailableError:
        staging.roll_back(mark)
        raise
    else:
        taken.accept(file, mark.rows)
    file.release(keep=False)


def _stopping(dataset: Dataset) -> CancelledError:
    return CancelledError(f"the storage service stops; ingest of {dataset.name!r} goes on when it is back")


def _role(source: SourceFormat, file: SourceFile, dataset_role: int) -> int:
    role = source.role_of(file.name)
    return dataset_role if role == "any" else int(Role.Value(role.upper()))


def _commit(
    writer: Writer,
    written: tuple[list[SegmentInfo], Int64Array],
    schema: StagedSchema,
    taken: _Taken,
    known: KnownFiles,
) -> None:
    """Commits what was taken: segments with the samples in some order (numbers as they were taken), and the files."""
    try:
        if taken.bad:
            known.quarantine(taken.bad)
        if taken.files:
            _commit_files(writer, written, schema, taken, known)
    except BaseException:
        writer.discard(written[0])
        raise


def _commit_files(
    writer: Writer,
    written: tuple[list[SegmentInfo], Int64Array],
    schema: StagedSchema,
    taken: _Taken,
    known: KnownFiles,
) -> None:
    dataset = writer.dataset
    infos, order = written
    versions = [file.version for file in taken.files]
    runs = FileRuns.of_rows(versions, _file_of_row(taken.starts, order))
    superseded = known.superseded_by(file.name for file in taken.files)
    companions = {file.name: seen_as(file) for file in taken.files if file.companions}
    manifest = write_manifest(dataset.scans_folder, runs, superseded, companions)
    scan = NewScan(
        manifest,
        KeyRuns(*superseded),
        num_new_files=known.count_new(versions),
        num_scans=known.num_scans,
        released=known.quarantined_among(versions),
    )
    writer.add_scan(infos, schema, scan)
    if len(scan.superseded):
        logger.info("dataset %r: %d samples of changed files are superseded", dataset.name, len(scan.superseded))
    known.add(versions, manifest, companions)


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


def _find_chunk(source: SourceFormat, files: list[SourceFile]) -> list[_Found]:
    return [_find(source, file) for file in files]


def _find(source: SourceFormat, file: SourceFile) -> _Found:
    """How a file's samples can stay where they are; None if they cannot."""
    try:
        with _reasons(source, file):
            if file.size == 0:
                return _EMPTY
            samples = source.in_place(file.path)
            if samples is None:
                return None
            if file.uri is not None and isinstance(samples.layout, WholeFileLayout):
                return None  # a request for each sample, at every read
            found = found_file(file, file.location, file.uri, samples)
            if not file.is_unchanged():
                raise FileNotFoundError(file.location)
            return found
    except (CorruptDataError, FileNotFoundError) as error:
        return error


_EMPTY = FoundFile(  # holds no samples in any format
    PlacedFile("", None, 0, 0, "", RecordLayout(0, ()), (0,)),
    InPlaceSamples(RecordLayout(0, ()), 0, pa.schema([]), None, None),
)


def _replayed(outcome: _Outcome) -> Iterator[FileSamples]:
    if isinstance(outcome, Exception):
        raise outcome
    yield from outcome


def _pieces(source: SourceFormat, file: SourceFile, staging: Staging) -> Iterator[FileSamples]:
    if file.size == 0:
        return  # holds no samples in any format
    with _reasons(source, file):
        yield from source.read(file.path, staging.schema.payload)


@contextmanager
def _reasons(source: SourceFormat, file: SourceFile) -> Iterator[None]:
    """Makes a reason for quarantine of whatever a format trips over."""
    try:
        yield
    except (ModynError, FileNotFoundError, MemoryError):
        raise
    except OSError as error:
        raise CorruptDataError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a format's defect must not stop the other files
        logger.exception("format %r failed on %s", source.plugin_name, file.name)
        raise CorruptDataError(f"format {source.plugin_name!r} failed: {type(error).__name__}: {error}") from error
