"""What is known of samples' labels: the ones they were ingested with, and later batches of labels over them.

Labels are bitemporal. Every version has a label time (when it became known on the data's clock), an arrival (when it
reached storage) and a version (the number of its batch). Nothing is overwritten: a reader asks for labels *as of* some
moment (:class:`modyn.storage.asof.AsOf`) and gets the same answer whenever it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import Digest
from modyn.core.errors import CorruptDataError
from modyn.storage.asof import NEWEST, AsOf
from modyn.storage.label_files import LabelFile, LabelFileInfo, in_version_order, open_label_file
from modyn.storage.label_merging import IsDeleted
from modyn.storage.label_search import Sought, arrived, find, may_be_seen
from modyn.storage.label_values import BoolArray, label_bytes, missing, overlaid

_BEFORE_ALL = np.iinfo(np.int64).min
_DIGEST_KEYS = 1 << 18
"""Keys whose labels are digested together."""


@dataclass(frozen=True, eq=False)
class LabelHistory:
    """A dataset's label files at one moment, oldest batches first. Immutable: a reader keeps the one it started with.

    All files are opened at once, so that a reader is not disturbed when compaction deletes them. A damaged file spoils
    only the reads that need it.
    """

    files: tuple[LabelFile | Damaged, ...] = ()

    @staticmethod
    def open(parent: Path, infos: Iterable[LabelFileInfo]) -> LabelHistory:
        """The history of a dataset from the folder of its label files; ``infos`` in any order."""
        return LabelHistory().plus(parent, *sorted(infos, key=lambda info: info.first_version))

    def plus(self, parent: Path, *infos: LabelFileInfo) -> LabelHistory:
        """With later batches."""
        return self._with((*self.files, *(_opened(parent, info) for info in infos)))

    def merged(self, parent: Path, info: LabelFileInfo) -> LabelHistory:
        """With a merged file in the place of those whose batches it holds."""
        before = [file for file in self.files if file.info.last_version < info.first_version]
        after = [file for file in self.files if file.info.first_version > info.last_version]
        return self._with((*before, _opened(parent, info), *after))

    def _with(self, files: tuple[LabelFile | Damaged, ...]) -> LabelHistory:
        assert in_version_order([file.info for file in files])
        return LabelHistory(files)

    @property
    def infos(self) -> tuple[LabelFileInfo, ...]:
        return tuple(file.info for file in self.files)

    @property
    def damage(self) -> list[str]:
        """What is wrong with files that could not be opened."""
        return [file.reason for file in self.files if isinstance(file, Damaged)]

    @property
    def version(self) -> int:
        """Number of the last batch; 0 if there is none."""
        return self.files[-1].info.last_version if self.files else 0

    @property
    def num_labels(self) -> int:
        """Stored versions of labels, beside those ingested with samples."""
        return sum(file.info.num_labels for file in self.files)

    def affects(self, first_key: int, end_key: int, as_of: AsOf = NEWEST) -> bool:
        """Whether samples ``first_key <= key < end_key`` may have later labels; tells by each file's bounds."""
        return any(file.overlaps(first_key, end_key) and arrived(file.info, as_of) for file in self.files)

    def applies(self, first_key: int, end_key: int, as_of: AsOf = NEWEST) -> bool:
        """Whether :meth:`resolve` may change ingested labels of these samples, so that it needs their times."""
        return as_of.restricts_base or self.affects(first_key, end_key)

    def resolve(
        self,
        keys: Int64Array,
        labels: pa.Array,
        timestamps: Int64Array | None,
        arrivals: Int64Array | int | None = None,
        as_of: AsOf = NEWEST,
    ) -> pa.Array:
        """Labels of samples as known at some moment.

        Args:
            keys: int64 [n], in any order, repeated ones too.
            labels: [n], as ingested, of the dataset's label type.
            timestamps: int64 [n], event times, Unix seconds; may be None where :meth:`applies` is false.
            arrivals: int64 [n], or one for all, Unix seconds; needed if ``as_of.arrival`` is set.

        Returns:
            [n], of the same type; ``labels`` themselves if nothing of these keys is changed or hidden.

        Raises:
            CorruptDataError: a file with labels of these keys is damaged.
        """
        if len(keys) == 0 or not (self.files or as_of.restricts_base):
            return labels
        hidden = _hidden(len(keys), timestamps, arrivals, as_of)
        files = self._overlapping(int(keys.min()), int(keys.max()) + 1, as_of)
        if not files and not bool(hidden.any()):
            return labels
        has_base = ~(missing(labels) | hidden)
        winners = _Winners.over(has_base, timestamps)
        winners.search(files, Sought(keys), as_of)
        found = ((winners.places(number), file) for number, file in enumerate(files))
        overlays = [(at, file.labels_at(winners.row[at], labels.type)) for at, file in found if len(at)]
        return overlaid(labels, has_base, overlays) if overlays or bool(hidden.any()) else labels

    def label_times(
        self,
        keys: Int64Array,
        labels: pa.Array,
        timestamps: Int64Array | None,
        arrivals: Int64Array | int | None = None,
        as_of: AsOf = NEWEST,
    ) -> pa.Array:
        """Label times of the labels that :meth:`resolve` answers, int64 [n], Unix seconds; null where that is the
        ingested label, or none. Arguments, and what is raised, as there."""
        files = self._overlapping(int(keys.min()), int(keys.max()) + 1, as_of) if len(keys) else []
        if not files:
            return pa.nulls(len(keys), pa.int64())
        has_base = ~(missing(labels) | _hidden(len(keys), timestamps, arrivals, as_of))
        winners = _Winners.over(has_base, timestamps)
        winners.search(files, Sought(keys), as_of)
        return pa.array(winners.since, mask=winners.file < 0)

    def digest(
        self,
        first_key: int,
        end_key: int,
        label_type: pa.DataType,
        as_of: AsOf = NEWEST,
        is_deleted: IsDeleted | None = None,
    ) -> str:
        """Identifies the later labels of a key range that are seen; empty if there are none.

        It is of (key, label time, label) of each sample's newest version that is seen, in key order. Together with the
        ingested samples this says what every label is, so two histories of equal digest give equal labels. It does not
        depend on how batches lie in files, nor on versions that are not seen or that a newer one hides: merging files,
        batches of other keys, and (with ``as_of``) later ones leave it as it is, and results that are named by it stay
        valid. What ``as_of`` hides of the *ingested* labels is not in it: where ``as_of.hides_base`` is true of a
        segment, its label time and arrival belong into the content digest too.

        Args:
            label_type: the dataset's.
            is_deleted: samples whose labels are no content; they are forgotten by compaction, at some time.

        Raises:
            CorruptDataError: a file with labels in the range is damaged.
        """
        digest, anything = Digest(), False
        files = self._overlapping(first_key, end_key, as_of)
        for start in range(first_key - first_key % _DIGEST_KEYS, end_key, _DIGEST_KEYS):
            low, high = max(start, first_key), min(start + _DIGEST_KEYS, end_key)
            near = [file for file in files if _has_rows(file, low, high)]
            if not near:
                continue
            winners = _Winners(high - low)
            winners.search(near, Sought.range(low, high), as_of)
            places = np.flatnonzero(winners.file >= 0)
            if is_deleted is not None:
                places = places[~is_deleted(places + low)]
            if len(places):
                anything = True
                for data in _contents(near, winners, places, low, label_type):
                    digest.update(data)
        return digest.hexdigest() if anything else ""

    def keys_since(self, version: int) -> Int64Array:
        """Keys with labels in batches after a version, ascending; for models trained on labels as of that version."""
        found = []
        for file in self._undamaged(file for file in self.files if file.info.last_version > version):
            rows = file.rows
            later = file.info.first_version > version
            found.append(rows.keys if later or rows.versions is None else rows.keys[rows.versions > version])
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)

    def holding(self, keys: Int64Array) -> tuple[LabelFileInfo, ...]:
        """The files with labels of any of these keys, int64 [n]; deleted samples are removed by merging them anew."""
        if len(keys) == 0:
            return ()
        sought = Sought(keys)
        near = self._overlapping(int(sought.keys[0]), int(sought.keys[-1]) + 1, NEWEST)
        return tuple(file.info for file in near if len(find(file, sought, NEWEST)[0]))

    def _overlapping(self, first_key: int, end_key: int, as_of: AsOf) -> list[LabelFile]:
        near = (file for file in self.files if file.overlaps(first_key, end_key) and arrived(file.info, as_of))
        return [file for file in self._undamaged(near) if may_be_seen(file, as_of)]

    def _undamaged(self, files: Iterable[LabelFile | Damaged]) -> Iterator[LabelFile]:
        for file in files:
            if isinstance(file, Damaged):
                raise CorruptDataError(file.reason)
            yield file


@dataclass(frozen=True)
class Damaged:
    """A label file that could not be opened."""

    info: LabelFileInfo
    reason: str

    def overlaps(self, first_key: int, end_key: int) -> bool:
        return self.info.min_key < end_key and self.info.max_key >= first_key


class _Winners:
    """For each of n samples: the newest version found so far.

    Attributes:
        since: int64 [n], its label time.
        file: int64 [n], which file it lies in; -1 for the label as ingested.
        row: int64 [n], where in the file.
    """

    def __init__(self, length: int) -> None:
        self.since = np.full(length, _BEFORE_ALL, dtype=np.int64)
        self.file = np.full(length, -1, dtype=np.int64)
        self.row = np.zeros(length, dtype=np.int64)

    @staticmethod
    def over(has_base: BoolArray, timestamps: Int64Array | None) -> _Winners:
        """The ingested labels of those samples that have one that is seen, bool [n], since their event times."""
        winners = _Winners(len(has_base))
        if bool(has_base.any()):
            assert timestamps is not None  # asked for by `applies`
            np.copyto(winners.since, timestamps, where=has_base)
        return winners

    def search(self, files: Sequence[LabelFile], sought: Sought, as_of: AsOf) -> None:
        """Files in version order: of equal label times the later file wins."""
        for number, file in enumerate(files):
            places, rows = find(file, sought, as_of)
            times = file.rows.label_times[rows]
            wins = times >= self.since[places]
            if not bool(wins.all()):
                places, rows, times = places[wins], rows[wins], times[wins]
            self.since[places] = times
            self.file[places] = number
            self.row[places] = rows

    def places(self, number: int) -> Int64Array:
        """The samples whose newest version lies in a file."""
        return np.flatnonzero(self.file == number)


def _opened(parent: Path, info: LabelFileInfo) -> LabelFile | Damaged:
    try:
        return open_label_file(parent, info)
    except CorruptDataError as error:
        return Damaged(info, error.message)


def _hidden(length: int, timestamps: Int64Array | None, arrivals: Int64Array | int | None, as_of: AsOf) -> BoolArray:
    """Which ingested labels are not seen, bool [n]."""
    hidden = np.zeros(length, dtype=bool)
    if as_of.label_time is not None:
        assert timestamps is not None  # as documented
        hidden |= timestamps > as_of.label_time
    if as_of.arrival is not None:
        assert arrivals is not None
        hidden |= np.asarray(arrivals) > as_of.arrival
    return hidden


def _has_rows(file: LabelFile, first_key: int, end_key: int) -> bool:
    low, high = np.searchsorted(file.rows.keys, [first_key, end_key])
    return bool(low < high)


def _contents(
    files: Sequence[LabelFile], winners: _Winners, places: Int64Array, first_key: int, label_type: pa.DataType
) -> Iterator[memoryview]:
    """Keys, label times and labels of some samples as bytes, in key order."""
    yield (places + first_key).data.cast("B")
    yield winners.since[places].data.cast("B")
    number_of = winners.file[places]
    pieces = []
    for number, file in enumerate(files):
        at = np.flatnonzero(number_of == number)
        pieces.append((at, file.labels_at(winners.row[places[at]], label_type)))
    none = np.zeros(len(places), dtype=bool)
    yield from label_bytes(overlaid(pa.nulls(len(places), label_type), none, pieces))
