"""Verifying: every byte of a dataset against the checksum that was taken when it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modyn.core.digests import matches
from modyn.core.errors import CorruptDataError, ModynError
from modyn.storage.catalog import DeletionInfo
from modyn.storage.contents import CONTENTS_FILE
from modyn.storage.dataset import Dataset
from modyn.storage.deletions import deletion_path
from modyn.storage.in_place import FILES_FILE, PLACES_FILE, REMOTE, digests_of, source_files
from modyn.storage.label_files import file_path
from modyn.storage.parts import map_file
from modyn.storage.segments import (
    COLUMNS_FILE,
    IN_PLACE,
    MERGED,
    PAYLOAD_FILE,
    REMOVED,
    SegmentInfo,
    header,
    open_segment,
    payload_digest,
    read_batch,
)
from modyn.storage.view import View


@dataclass
class VerifyProgress:
    """How far verification is."""

    bytes_total: int
    bytes_done: int = 0
    files_done: int = 0
    damaged: list[str] = field(default_factory=list)
    """What is wrong with each damaged file so far."""


@dataclass(frozen=True)
class _File:
    path: Path
    num_bytes: int
    expected: str


def verify(dataset: Dataset) -> Iterator[VerifyProgress]:
    """Reads all files of a dataset: columns, payload (also where it lies in the source's files), labels, deletions."""
    view = dataset.view()
    snapshot = view.snapshot
    progress = VerifyProgress(
        sum(_stored_bytes(view, info) for info in snapshot.segments)
        + sum(info.num_bytes for info in snapshot.labels.infos)
    )
    yield progress
    for info in snapshot.segments:
        yield from _checked(_segment_files(view, info), progress, partial(_is_needed, dataset, info))
    for file in _other_files(dataset, view):
        yield from _checked(iter([file]), progress, partial(_is_other_file, dataset, file))


def _is_needed(dataset: Dataset, info: SegmentInfo) -> bool:
    """Whether a segment is still the dataset's; another process may have compacted it meanwhile."""
    return not dataset.read_only or info in dataset.snapshot.segments


def _is_other_file(dataset: Dataset, file: _File) -> bool:
    return not dataset.read_only or any(other.path == file.path for other in _other_files(dataset, dataset.view()))


def _checked(
    files: Iterator[_File], progress: VerifyProgress, is_needed: Callable[[], bool]
) -> Iterator[VerifyProgress]:
    before = len(progress.damaged)
    while True:
        file = None
        try:
            file = next(files, None)
            if file is None:
                return
            if not matches(file.path, file.expected):
                raise CorruptDataError(
                    f"{file.path}: its bytes are not those that were written; restore it from a copy"
                )
            progress.bytes_done += file.num_bytes
            progress.files_done += 1
        except (ModynError, OSError) as error:
            if not is_needed() or (file is None and len(progress.damaged) > before):  # told of that file already
                return
            progress.damaged.append(
                error.message
                if isinstance(error, ModynError)
                else f"{error.filename}: cannot be read: {error.strerror}; restore it from a copy"
            )
        yield progress


def _segment_files(view: View, info: SegmentInfo) -> Iterator[_File]:
    folder = view.folder / info.name
    if info.kind == REMOVED:
        yield _File(folder / CONTENTS_FILE, 0, info.digest)
        return
    yield _File(folder / COLUMNS_FILE, info.columns_bytes, info.digest)
    columns = read_batch(map_file(folder / COLUMNS_FILE, info.columns_bytes), info.num_samples)
    if info.kind == IN_PLACE:
        files, places = digests_of(columns)
        yield _File(folder / FILES_FILE, 0, files)
        yield _File(folder / PLACES_FILE, info.payload_bytes, places)
        for where, path, size, mtime_ns, checksum in source_files(folder):
            local = view.fetch(path, size, mtime_ns) if where == REMOTE and view.fetch is not None else path
            yield _File(Path(local), size, checksum)
        return
    yield _File(folder / PAYLOAD_FILE, info.payload_bytes, payload_digest(columns))
    if info.kind == MERGED:
        yield _File(folder / CONTENTS_FILE, 0, header(columns, b"modyn.contents_digest"))
    open_segment(view.folder, info)  # the sizes and headers that every reader relies on


def _other_files(dataset: Dataset, view: View) -> Iterator[_File]:
    for info in view.snapshot.labels.infos:
        yield _File(file_path(dataset.labels_folder, info.name), info.num_bytes, info.digest)
    deletions: list[DeletionInfo] = dataset.deletions
    for deletion in deletions:
        yield _File(deletion_path(dataset.deletions_folder, deletion.name), 0, deletion.digest)


def _stored_bytes(view: View, info: SegmentInfo) -> int:
    total = info.payload_bytes + info.columns_bytes
    if info.kind == IN_PLACE:
        with suppress(CorruptDataError):  # found again, and reported, when it is its turn
            total += sum(file.size for file in source_files(view.folder / info.name))
    return total
