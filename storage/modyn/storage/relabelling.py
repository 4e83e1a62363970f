"""What changes about files that were ingested before: label files that appear or change later, and files that a table's
own list no longer names."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import digest_inputs
from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import SourceFormat
from modyn.storage.columns import Column
from modyn.storage.folder import NANOSECONDS, Listing, SourceFile, companions_of
from modyn.storage.index import KeyRuns
from modyn.storage.known import KnownFiles, seen_as
from modyn.storage.manifest import FileRuns, write_manifest
from modyn.storage.schema import normal_labels
from modyn.storage.writing import NewScan, Writer

logger = logging.getLogger(__name__)

_NO_FILES = FileRuns([], *(np.empty(0, dtype=np.int64) for _ in range(3)))


def relabel(
    writer: Writer,
    source: SourceFormat,
    listing: Listing,
    known: KnownFiles,
    is_complete: Callable[[SourceFile], bool],
) -> bool:
    """Commits the labels of samples whose label file appeared or changed after they were ingested, as later labels
    whose time is that of the label file. Whether that is all there is to do while no label file changes.

    The caller holds the dataset's scan lock.
    """
    if type(source).companions is SourceFormat.companions:
        return True
    left = 0
    changed: list[SourceFile] = []
    for file, companions in zip(listing.files, companions_of(source, listing.files, listing), strict=True):
        found = file._replace(companions=companions)
        if known.companions_changed(found, seen_as(found)):
            if _all(is_complete, [companion for _, companion in companions if companion is not None]):
                changed.append(found)
            else:
                left += 1
    keys_of = known.keys_of(file.name for file in changed)
    keys, labels, times, seen_of = [], [], [], {}
    for file in changed:
        try:
            values = _labels(source, file)
        except (CorruptDataError, FileNotFoundError) as error:
            logger.warning("label of %s is left as it is: %s", file.name, error)
            continue
        finally:
            file.release(keep=False)
        keys.append(keys_of[file.name])
        labels.append(values)
        times.append(np.full(len(values), _seconds_of_companions(file), dtype=np.int64))
        seen_of[file.name] = seen_as(file)
    if seen_of:
        _commit(writer, known, (keys, labels, times), seen_of)
    return left == 0


def supersede_missing(writer: Writer, source: SourceFormat, listing: Listing, known: KnownFiles) -> int:
    """For formats that list their files themselves: samples of files that are not on the list any more are superseded.
    Their number. The caller holds the dataset's scan lock."""
    if type(source).list_files is SourceFormat.list_files:
        return 0
    missing = known.missing(file.name for file in listing.files)
    if not missing:
        return 0
    writer.begin()
    superseded = known.superseded_by(missing)
    manifest = write_manifest(writer.dataset.scans_folder, _NO_FILES, superseded, removed=missing)
    scan = NewScan(manifest, KeyRuns(*superseded), num_new_files=0, num_scans=known.num_scans)
    writer.add_scan([], writer.dataset.snapshot.schema, scan)
    known.add([], manifest, removed=missing)
    logger.info("dataset %r: %d samples are superseded", writer.dataset.name, len(scan.superseded))
    return len(scan.superseded)


def _all(is_complete: Callable[[SourceFile], bool], files: list[SourceFile]) -> bool:
    """Asks of every file, also after a no: each has to be looked at to become complete."""
    return sum(is_complete(file) for file in files) == len(files)


def _seconds_of_companions(file: SourceFile) -> int:
    """When the newest companion file was changed, Unix seconds; now if there is none."""
    changes = [companion.mtime_ns for _, companion in file.companions if companion is not None]
    return max(changes, default=time.time_ns()) // NANOSECONDS


def _labels(source: SourceFormat, file: SourceFile) -> pa.Array:
    parts = [piece.labels for piece in source.read(file.path, None)]
    if not file.is_unchanged() or any(part is None for part in parts):
        raise FileNotFoundError(file.location)
    return pa.concat_arrays([normal_labels(part) for part in parts])


def _commit(
    writer: Writer,
    known: KnownFiles,
    columns: tuple[list[Int64Array], list[pa.Array], list[Int64Array]],
    seen: dict[str, str],
) -> None:
    keys, labels, times = columns
    wanted, since = np.concatenate(keys), np.concatenate(times)
    with writer.lock:
        writer.begin()
        snapshot = writer.dataset.snapshot
        label_type = snapshot.schema.label or next((part.type for part in labels if part.type != pa.null()), pa.null())
        values = pa.concat_arrays([part if part.type == label_type else part.cast(label_type) for part in labels])
        left = ~snapshot.deleted.contains(wanted)
        wanted, values = wanted[left], values.filter(pa.array(left))
        # A label file may be older than its sample; a label is never known before its sample.
        since = np.maximum(since[left], writer.column(wanted, Column.TIMESTAMP).to_numpy())
        batch_id = f"label files {digest_inputs({'seen': seen})}"
        writer.set_labels(batch_id, pa.array(wanted), values, pa.array(since))
        # What was read is noted after the labels are committed: a crash in between only reads them again.
        manifest = write_manifest(writer.dataset.scans_folder, _NO_FILES, (_NO_FILES.lengths, _NO_FILES.lengths), seen)
        writer.add_scan([], snapshot.schema, NewScan(manifest, KeyRuns(), num_new_files=0))
        known.add([], manifest, seen)
