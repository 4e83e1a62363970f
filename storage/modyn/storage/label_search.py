"""Finding keys in label files: for each key the row of the newest version that is seen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.storage.asof import AsOf
from modyn.storage.gather import rows_of_ranges
from modyn.storage.label_files import LabelFile, LabelFileInfo

Hits = tuple[Int64Array, Int64Array]
"""Places among the keys asked for, and rows of the file; int64 [hits] each."""

_EXPANDED_ROWS = 1 << 22
"""Rows whose visibility is looked at together."""


_MIN_INDEXED = 512
"""Requests of fewer keys are searched, so that they do not wait for an index to be made."""


class Sought:
    """Keys to look for.

    Attributes:
        keys: int64 [n] in request order, not necessarily distinct, at least one.
        consecutive: whether they are a key range.
    """

    def __init__(self, keys: Int64Array) -> None:
        self.keys = keys
        self.consecutive = int(keys[-1]) - int(keys[0]) == len(keys) - 1 and bool((np.diff(keys) == 1).all())

    @staticmethod
    def range(first_key: int, end_key: int) -> Sought:
        return Sought(np.arange(first_key, end_key, dtype=np.int64))

    @cached_property
    def ascending(self) -> tuple[Int64Array, Int64Array | None]:
        """The keys in order, and the place of each in the request (None for the same): a binary search for sorted keys
        is several times faster than one that jumps about."""
        if bool((np.diff(self.keys) >= 0).all()):
            return self.keys, None
        order = np.argsort(self.keys).astype(np.int64, copy=False)
        return self.keys[order], order

    def within(self, file: LabelFile) -> Int64Array | None:
        """Places of keys within a file's bounds; None for all."""
        inside = (self.keys >= file.info.min_key) & (self.keys <= file.info.max_key)
        return None if bool(inside.all()) else np.flatnonzero(inside)


def arrived(info: LabelFileInfo, as_of: AsOf) -> bool:
    """Whether any of a file's batches had reached storage."""
    return (as_of.version is None or info.first_version <= as_of.version) and (
        as_of.arrival is None or info.min_arrival <= as_of.arrival
    )


def may_be_seen(file: LabelFile, as_of: AsOf) -> bool:
    """Whether a reader may see any of a file's versions."""
    return arrived(file.info, as_of) and (as_of.label_time is None or file.min_time <= as_of.label_time)


def all_seen(file: LabelFile, as_of: AsOf) -> bool:
    """Whether a reader sees all of a file's versions."""
    return (
        (as_of.version is None or file.info.last_version <= as_of.version)
        and (as_of.arrival is None or file.info.max_arrival <= as_of.arrival)
        and (as_of.label_time is None or file.max_time <= as_of.label_time)
    )


def seen(file: LabelFile, rows: Int64Array, as_of: AsOf) -> npt.NDArray[np.bool_]:
    """Which rows a reader sees, bool [rows]; the file is one that :func:`may_be_seen`."""
    mask = np.ones(len(rows), dtype=bool)
    if as_of.label_time is not None:
        mask &= file.rows.label_times[rows] <= as_of.label_time
    if as_of.version is not None and file.rows.versions is not None:
        mask &= file.rows.versions[rows] <= as_of.version
    if as_of.arrival is not None and file.rows.arrivals is not None:
        mask &= file.rows.arrivals[rows] <= as_of.arrival
    return mask


def find(file: LabelFile, sought: Sought, as_of: AsOf) -> Hits:
    """The newest version that is seen of every key that has one in this file."""
    if file.info.num_labels == 0 or not may_be_seen(file, as_of):
        return _nothing()
    if sought.consecutive:
        places, rows = _of_range(file, int(sought.keys[0]), int(sought.keys[-1]) + 1)
    elif file.dense or (file.indexable and len(sought.keys) >= _MIN_INDEXED):
        places, rows = _looked_up(file, sought)
    else:
        places, rows = _searched(file, sought)
    if not all_seen(file, as_of):
        rows = _last_seen(file, rows, as_of)
        places, rows = places[rows >= 0], rows[rows >= 0]
    return places, rows


def _of_range(file: LabelFile, first_key: int, end_key: int) -> Hits:
    low, high = np.searchsorted(file.rows.keys, [first_key, end_key]).tolist()
    rows = _run_ends(file, low, high)
    return file.rows.keys[rows] - first_key, rows


def _looked_up(file: LabelFile, sought: Sought) -> Hits:
    inside = sought.within(file)
    keys = sought.keys if inside is None else sought.keys[inside]
    if file.dense:
        return np.arange(len(keys), dtype=np.int64) if inside is None else inside, keys - file.info.min_key
    places, rows = file.index.find(keys)
    return places if inside is None else inside[places], rows


def _searched(file: LabelFile, sought: Sought) -> Hits:
    keys, order = sought.ascending
    stored = file.rows.keys
    low, high = np.searchsorted(stored, [keys[0], keys[-1] + 1]).tolist()
    if 2 * (high - low) < len(keys):  # fewer searches the other way round
        rows = _run_ends(file, low, high)
        starts = np.searchsorted(keys, stored[rows], side="left")
        ends = np.searchsorted(keys, stored[rows], side="right")
        places, rows = rows_of_ranges(starts, ends), np.repeat(rows, ends - starts)
    else:
        rows = np.searchsorted(stored, keys, side="right") - 1
        places = np.flatnonzero((rows >= 0) & (stored[rows] == keys))
        rows = rows[places]
    return (places if order is None else order[places]), rows


def _run_ends(file: LabelFile, low: int, high: int) -> Int64Array:
    """The last row of each key among rows [low, high), which split no key."""
    rows = np.arange(low, high, dtype=np.int64)
    if file.unique or low == high:
        return rows
    keys = file.rows.keys[low:high]
    ends: Int64Array = rows[np.append(keys[1:] != keys[:-1], True)]
    return ends


def _last_seen(file: LabelFile, last: Int64Array, as_of: AsOf) -> Int64Array:
    """From the last rows of keys back to the last ones that are seen, -1 where there is none."""
    visible = seen(file, last, as_of)
    if file.unique:
        return np.where(visible, last, -1)
    found = last.copy()
    hidden = np.flatnonzero(~visible)
    if len(hidden) == 0:
        return found
    ends, which = np.unique(last[hidden], return_inverse=True)
    firsts = np.searchsorted(file.rows.keys, file.rows.keys[ends], side="left")
    latest = np.empty(len(ends), dtype=np.int64)
    for part in _chunks(ends + 1 - firsts):
        rows = rows_of_ranges(firsts[part], ends[part] + 1)
        marked = np.where(seen(file, rows, as_of), rows, -1)
        lengths = ends[part] + 1 - firsts[part]
        latest[part] = np.maximum.reduceat(marked, np.cumsum(lengths) - lengths)
    found[hidden] = latest[which]
    return found


def _chunks(lengths: Int64Array) -> Iterator[slice]:
    """Consecutive runs of items of about :data:`_EXPANDED_ROWS` rows, or of one item."""
    block = np.cumsum(lengths) // _EXPANDED_ROWS
    cuts = np.flatnonzero(np.diff(block)) + 1
    for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(lengths)], strict=True):
        yield slice(start, end)


def _nothing() -> Hits:
    none = np.empty(0, dtype=np.int64)
    return none, none
