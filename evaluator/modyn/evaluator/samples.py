"""The samples of an evaluation: keys and labels in order of event time, so that a window is a slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.digests import Digest
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import run_bounds
from modyn.core.versions import DATA_DIGEST_VERSION
from modyn.evaluator.request import Span
from modyn.proto.evaluator_pb2 import CERTIFICATION_UNSPECIFIED, CERTIFIED, CROSS_VALIDATION, Certification
from modyn.proto.storage_pb2 import SegmentContent

AS_INGESTED = -(2**63)
"""In the place of a label time: the label is the one that the sample was ingested with."""

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]

_DIGEST_CHARS = 40
_RECORD_BYTES = 16 + _DIGEST_CHARS


@dataclass(frozen=True, eq=False)
class Contents:
    """What storage was given, by key: segments as they were ingested. Compaction does not change them.

    Attributes:
        starts, ends: key ranges, int64 [s] each, ascending.
        records: of each segment its range and its digest, :data:`_RECORD_BYTES` each.
    """

    starts: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    ends: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    records: bytes = b""

    @staticmethod
    def of(segments: Sequence[SegmentContent]) -> Contents:
        ranges = np.array([(s.first_key, s.end_key) for s in segments], dtype="<i8").reshape(-1, 2)
        digests = np.array([s.digest.encode() for s in segments], dtype=f"S{_DIGEST_CHARS}")
        records = np.concatenate([ranges.view(np.uint8), digests[:, None].view(np.uint8)], axis=1)
        return Contents(ranges[:, 0].astype(np.int64), ranges[:, 1].astype(np.int64), records.tobytes())

    def within(self, first_key: int, end_key: int) -> memoryview:
        """The records of the segments that hold some of these keys."""
        first = int(np.searchsorted(self.ends, first_key, side="right"))
        last = int(np.searchsorted(self.starts, end_key, side="left"))
        return memoryview(self.records)[first * _RECORD_BYTES : last * _RECORD_BYTES]


@dataclass(frozen=True, eq=False)
class WindowLabels:
    """What was known of the samples of one window at its end.

    Attributes:
        rows: which of the labelled samples had a label then, int64 [k], ascending.
        label_rows: where the label of each is in :attr:`Samples.all_labels`, int64 [k].
        num_unlabelled: samples of the window that had none.
    """

    rows: Int64Array
    label_rows: Int64Array
    num_unlabelled: int


@dataclass(frozen=True, eq=False)
class Samples:
    """Live samples in (timestamp, key) order; those without a label only count.

    Attributes:
        keys: of labelled samples, int64 [n].
        timestamps: of labelled samples, int64 [n], ascending.
        labels: as stored, [n], no nulls; the newest ones.
        unlabelled_timestamps: of unlabelled samples, int64 [m], ascending.
        is_test: whether the role is ``test``, so that no training sees the sample, bool [n].
        label_times: when later labels became known, int64 [n], Unix seconds; :data:`AS_INGESTED` for those that came
            with their samples. None: all of them did.
        label_delay: seconds after its event time that a label which came with its sample is known.
        windows: of the request.
        contents: what storage holds of the samples.
        slices: payload columns to slice by, [n] each; null for samples that are in no window.
        earlier_labels: labels that differ from the newest ones and that some window is scored with, [e].
        known: of each window what was known at its end; None: all windows are scored with the newest labels.
    """

    keys: Int64Array
    timestamps: Int64Array
    labels: pa.Array
    unlabelled_timestamps: Int64Array
    is_test: BoolArray
    label_times: Int64Array | None = None
    label_delay: int = 0
    windows: tuple[Span, ...] = ()
    contents: Contents = field(default_factory=Contents)
    slices: Mapping[str, pa.Array] = field(default_factory=dict)
    earlier_labels: pa.Array | None = None
    known: tuple[WindowLabels, ...] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def all_labels(self) -> pa.Array:
        """The newest labels, then the earlier ones, [n + e]; what :attr:`WindowLabels.label_rows` point into."""
        if self.earlier_labels is None or not len(self.earlier_labels):
            return self.labels
        return pa.concat_arrays([self.labels, self.earlier_labels])

    @property
    def known_at(self) -> Int64Array:
        """When each of the newest labels became known, int64 [n], Unix seconds."""
        latest = np.iinfo(np.int64).max - self.label_delay
        ingested: Int64Array = np.minimum(self.timestamps, latest) + self.label_delay
        if self.label_times is None:
            return ingested
        return np.where(self.label_times == AS_INGESTED, ingested, self.label_times)

    def only(self, kept: BoolArray) -> Samples:
        """The labelled samples of a mask, bool [n], and all unlabelled ones."""
        mask = pa.array(kept)
        return replace(
            self,
            keys=self.keys[kept],
            timestamps=self.timestamps[kept],
            labels=self.labels.filter(mask),
            is_test=self.is_test[kept],
            label_times=None if self.label_times is None else self.label_times[kept],
            slices={name: column.filter(mask) for name, column in self.slices.items()},
            known=None if self.known is None else tuple(_only(window, kept) for window in self.known),
        )

    def with_payload(self, contents: Contents, slices: Mapping[str, pa.Array]) -> Samples:
        """The same samples, with what storage holds of them and with columns to slice by, [n] each."""
        return replace(self, contents=contents, slices=slices)

    def within(self, window: Span) -> slice:
        """Positions of the labelled samples of a window."""
        start, end = np.searchsorted(self.timestamps, [window.start, window.end])
        return slice(int(start), int(end))

    def num_unlabelled(self, window: Span) -> int:
        start, end = np.searchsorted(self.unlabelled_timestamps, [window.start, window.end])
        return int(end - start)

    def scored(self, window: int) -> slice | Int64Array:
        """Positions of the labelled samples that a window of the request is scored on."""
        return self.within(self.windows[window]) if self.known is None else self.known[window].rows

    def certification(self, window: int) -> Certification.ValueType:
        """What the scores of a window of the request may be called."""
        roles = self.is_test[self.scored(window)]
        if not len(roles):
            return CERTIFICATION_UNSPECIFIED
        return CERTIFIED if bool(roles.all()) else CROSS_VALIDATION

    def data_digest(self, window: int) -> str:
        """Digest of the labelled samples that a window of the request is scored on: of their keys and labels, and of
        what storage was given under these keys. It does not depend on the other windows, nor on the dataset's name.
        Empty without samples."""
        rows = self.scored(window)
        keys = self.keys[rows]
        if not len(keys):
            return ""
        digest = Digest().update(b"modyn data %d" % DATA_DIGEST_VERSION)
        for part in (*self._key_bytes(keys), *self._label_bytes(window)):
            digest.update(b"%d:" % part.nbytes).update(part)
        return digest.update(self.contents.within(int(keys.min()), int(keys.max()) + 1)).hexdigest()

    def _key_bytes(self, keys: Int64Array) -> list[memoryview]:
        """The same for the same keys in the same order; runs of keys take no time."""
        bounds: tuple[Int64Array, Int64Array] | None
        if self._ascends and int(keys[-1]) - int(keys[0]) == len(keys) - 1:
            bounds = keys[:1], keys[-1:] + 1
        else:
            bounds = run_bounds(keys)
        return [_bytes_of(part) for part in (bounds or (keys,))]

    def _label_bytes(self, window: int) -> list[memoryview]:
        """The same for the same labels in the same order."""
        if self.known is None:
            part = self.within(self.windows[window])
            if self._small_labels is not None:
                return [_bytes_of(self._small_labels[part])]
            return label_bytes(self.labels.slice(part.start, part.stop - part.start))
        return label_bytes(self.all_labels.take(pa.array(self.known[window].label_rows)))

    @cached_property
    def _ascends(self) -> bool:
        return bool((self.keys[1:] > self.keys[:-1]).all())

    @cached_property
    def _small_labels(self) -> npt.NDArray[np.int8] | None:
        """All labels as :func:`label_bytes` has them, if each fits into a byte."""
        if not pa.types.is_integer(self.labels.type) or not len(self):
            return None
        if _smallest_type(*(value.as_py() for value in pc.min_max(self.labels).values())) != np.int8:
            return None
        small: npt.NDArray[np.int8] = self.labels.to_numpy(zero_copy_only=False).astype(np.int8)
        return small


def class_labels(labels: pa.Array, dataset: str) -> Int64Array:
    """Stored labels as classes, int64 [n].

    Raises:
        InvalidInputError: they are no integers.
    """
    kind = labels.type
    if not len(labels):  # of any type: nothing is wrong with them, and not all types can be cast
        return np.empty(0, dtype=np.int64)
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InvalidInputError(
            f"dataset {dataset!r} has labels of type {kind}, but classification metrics need integer classes; "
            "set label_transformer_function to turn labels into classes"
        )
    classes: Int64Array = labels.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return classes


def number_labels(labels: pa.Array, dataset: str) -> Float64Array:
    """Stored labels as numbers, float64 [n, k]: k is 1, or the length of all labels if they are lists.

    Raises:
        InvalidInputError: they are no numbers, or lists of different lengths.
    """
    width = 1
    if pa.types.is_list(labels.type) or pa.types.is_fixed_size_list(labels.type):
        lengths = pc.unique(pc.list_value_length(labels)).to_pylist()
        if len(lengths) > 1 or 0 in lengths:
            raise InvalidInputError(
                f"dataset {dataset!r} has labels of {min(lengths)} to {max(lengths)} numbers, but metrics of numbers "
                "need the same count, at least 1, for every sample; set label_transformer_function to bring them to one"
            )
        width = lengths[0] if lengths else 1
        labels = labels.flatten()
    kind = labels.type
    known = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if len(labels) and (not known or labels.null_count):
        what = "missing numbers in its labels" if known else f"labels of type {kind}"
        raise InvalidInputError(
            f"dataset {dataset!r} has {what}, but metrics of numbers need numbers; set label_transformer_function to "
            "turn labels into numbers"
        )
    if pa.types.is_boolean(kind):
        labels = labels.cast(pa.int64())
    numbers: Float64Array = labels.to_numpy(zero_copy_only=False).astype(np.float64, copy=False).reshape(-1, width)
    return numbers


def label_bytes(labels: pa.Array) -> list[memoryview]:
    """Bytes that differ where labels of one type differ; whole numbers of few digits take few bytes.

    Args:
        labels: [n], no nulls, n > 0.
    """
    if pa.types.is_list(labels.type) or pa.types.is_fixed_size_list(labels.type):
        lengths = pc.list_value_length(labels).to_numpy(zero_copy_only=False).astype("<i8")
        items = labels.flatten()
        return [_bytes_of(lengths), *(label_bytes(items.fill_null(0)) if len(items) else []), *_nulls(items)]
    values = labels.cast(pa.int8()) if pa.types.is_boolean(labels.type) else labels
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind in "iu":
        numbers = numbers.astype(_smallest_type(int(numbers.min()), int(numbers.max())))
    return [_bytes_of(numbers)]


def _smallest_type(low: int, high: int) -> npt.DTypeLike:
    """That holds whole numbers from ``low`` to ``high``."""
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return next((kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), np.uint64)


def _nulls(items: pa.Array) -> list[memoryview]:
    return [_bytes_of(items.is_null().to_numpy(zero_copy_only=False))] if items.null_count else []


def _bytes_of(values: npt.NDArray[np.generic]) -> memoryview:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).view(np.uint8).data


def _only(window: WindowLabels, kept: BoolArray) -> WindowLabels:
    """The same about the samples of a mask, bool [n]."""
    place = np.cumsum(kept) - 1
    stay = kept[window.rows]
    label_rows = window.label_rows[stay]
    newest = label_rows < len(kept)
    moved = label_rows - (len(kept) - np.count_nonzero(kept))
    moved[newest] = place[label_rows[newest]]
    return WindowLabels(place[window.rows[stay]], moved, window.num_unlabelled)
