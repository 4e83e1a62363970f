"""Joining label files, so that a read has few of them to look into; nothing is forgotten but labels of deleted samples.

A merged file keeps every version with its label time, arrival and batch number, so whatever was known at any time can
still be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.storage.label_files import (
    LabelFile,
    LabelFileInfo,
    LabelRows,
    as_type,
    in_version_order,
    open_label_file,
    write_rows,
)

IsDeleted = Callable[[Int64Array], npt.NDArray[np.bool_]]
"""Which of some keys belong to deleted samples: int64 [n] to bool [n]."""

MIN_FILES_TO_MERGE = 8
MAX_MERGED_LABELS = 16_000_000
"""A merge holds its result in memory, 40 bytes a label (and more for lists)."""

_WINDOW_ROWS = 65_536
"""Rows of one file that are sorted at a time."""


def files_to_merge(infos: Sequence[LabelFileInfo]) -> slice | None:
    """Which of the newest files should become one; None if they are few enough. To be asked after every batch.

    Merged are the oldest file that is no larger than all newer ones together, and all these newer ones. So every file
    that is left alone is larger than all newer ones together: there are at most ``MIN_FILES_TO_MERGE + log2(labels)``
    files. And a label is rewritten only into a file about twice as large, so at most log2(labels) times (once more in a
    file that comes after smaller ones). Files beyond half of ``MAX_MERGED_LABELS`` stay as they are.

    Args:
        infos: a dataset's label files in version order.
    """
    first, total = len(infos), 0
    newer = 0
    for index in reversed(range(len(infos))):
        size = infos[index].num_labels
        if newer + size > MAX_MERGED_LABELS:
            break
        if size <= newer:
            first, total = index, newer + size
        newer += size
    count = len(infos) - first
    enough = count >= MIN_FILES_TO_MERGE or (count > 1 and total >= MAX_MERGED_LABELS // 2)
    return slice(first, len(infos)) if enough else None


def merge_label_files(
    parent: Path, infos: Sequence[LabelFileInfo], label_type: pa.DataType, is_deleted: IsDeleted | None = None
) -> LabelFileInfo:
    """Writes the rows of neighbouring files into one new file; they are on disk (fsynced) when this returns.

    Args:
        parent: the folder with the files; they stay.
        infos: at least one, in version order; one alone is rewritten without its deleted samples.
        label_type: the dataset's.
        is_deleted: whose labels are left out.

    Raises:
        CorruptDataError: a file cannot be read.
        UnavailableError: the disk is full or not writable; nothing is left of the new file.
    """
    assert in_version_order(infos)  # equal label times are told apart by it
    files = [open_label_file(parent, info) for info in infos]
    rows = _joined(files, label_type, is_deleted)
    return write_rows(
        parent,
        rows,
        (infos[0].first_version, infos[-1].last_version),
        (min(info.min_arrival for info in infos), max(info.max_arrival for info in infos)),
    )


def _joined(files: list[LabelFile], label_type: pa.DataType, is_deleted: IsDeleted | None) -> LabelRows:
    """All rows in order, sorted window by window: what is held beside the result is small."""
    out = np.empty((4, sum(file.info.num_labels for file in files)), dtype=np.int64)
    labels: list[pa.Array] = [pa.nulls(0, label_type)]
    filled = 0
    for parts in _windows(files):
        numbers = np.concatenate([_numbers(file, part) for file, part in parts], axis=1)
        # Stable, and the files are in version order: rows of equal key and label time end up in version order.
        order = np.lexsort((numbers[1], numbers[0]))
        if is_deleted is not None:
            order = order[~is_deleted(numbers[0])[order]]
        window = [
            as_type(file.rows.labels.slice(part.start, part.stop - part.start), label_type) for file, part in parts
        ]
        labels.append(pa.concat_arrays(window).take(pa.array(order)))
        out[:, filled : filled + len(order)] = numbers[:, order]
        filled += len(order)
    keys, times, versions, arrivals = out[:, :filled]
    return LabelRows(keys, pa.concat_arrays(labels), times, versions, arrivals)


def _windows(files: list[LabelFile]) -> Iterator[list[tuple[LabelFile, slice]]]:
    """Rows of all files between consecutive keys; all rows of one key are in one window."""
    bounds = np.unique(np.concatenate([file.rows.keys[::_WINDOW_ROWS] for file in files]))
    cuts = [np.append(np.searchsorted(file.rows.keys, bounds), file.info.num_labels).tolist() for file in files]
    for window in range(len(bounds)):
        parts = [(file, slice(cut[window], cut[window + 1])) for file, cut in zip(files, cuts, strict=True)]
        yield [(file, part) for file, part in parts if part.stop > part.start]


def _numbers(file: LabelFile, part: slice) -> Int64Array:
    """Keys, label times, versions and arrivals of some rows, int64 [4, rows]."""
    rows = file.rows
    numbers = np.empty((4, part.stop - part.start), dtype=np.int64)
    numbers[0] = rows.keys[part]
    numbers[1] = rows.label_times[part]
    numbers[2] = file.info.first_version if rows.versions is None else rows.versions[part]
    numbers[3] = file.info.min_arrival if rows.arrivals is None else rows.arrivals[part]
    return numbers
