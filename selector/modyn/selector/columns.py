"""What the selector asks the storage service about samples: which can be trained on, and their columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array, int64_column
from modyn.core.errors import ConflictError, InvalidInputError
from modyn.core.keysets import KeyRange, KeySet, ranges_to_proto, run_bounds
from modyn.proto.storage_pb2 import TRAINING, InspectSamplesRequest, LabelsAsOf, SamplesInfo
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import Column, Order, read_columns, read_samples, stream_columns

VALUES_PER_BATCH = 65_536

MAX_RANGES = 4_096
"""Ranges in one request; scattered keys are covered by wider ranges instead."""


class StorageColumns:
    """Columns of samples of one dataset (see :class:`modyn.core.plugins.selection.SampleColumns`).

    Everything is read for training: samples that are for tests only are not there.

    Args:
        end_key: what counts is what was known when the dataset ended here, so that a replay of a live stretch,
            in which some samples were superseded later, selects the same samples.
        labels: which labels count.
    """

    def __init__(self, storage: StorageStub, dataset: str, end_key: int, labels: LabelsAsOf) -> None:
        self._storage = storage
        self._dataset = dataset
        self._end_key = end_key
        self._labels = labels

    def labels(self, keys: KeySet) -> pa.Array:
        """Labels in key-set order, [n], null where missing."""
        return self._column(keys, Column.LABEL, "label")

    def timestamps(self, keys: KeySet) -> npt.NDArray[np.int64]:
        """Event times in key-set order, int64 [n], Unix seconds."""
        times: Int64Array = self._column(keys, Column.TIMESTAMP, "timestamp").to_numpy(zero_copy_only=False)
        return times

    def values(self, keys: KeySet, column: str) -> npt.NDArray[np.float64]:
        """A column of numbers of the samples themselves in key-set order, float64 [n]; NaN where it is missing.

        Raises:
            InvalidInputError: the samples have no such column of numbers.
            ConflictError: some of the samples were deleted meanwhile.
        """
        found, position = np.empty(len(keys)), 0
        reader = read_samples(
            self._storage,
            self._dataset,
            keys,
            batch_size=VALUES_PER_BATCH,
            columns=[column],
            labels=self._labels,
            purpose=TRAINING,
        )
        for batch in reader:
            values = batch.columns[column]
            if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
                raise InvalidInputError(f"column {column!r} of dataset {self._dataset!r} is {values.type}, no number")
            found[position : position + len(batch)] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
            position += len(batch)
        self._check_all(position, keys)
        return found

    def inspect(self, cover: tuple[KeyRange, ...]) -> SamplesInfo:
        """Counts and content digest of the samples in some ranges."""
        request = InspectSamplesRequest(
            dataset=self._dataset,
            ranges=ranges_to_proto(cover),
            end_key=self._end_key,
            labels=self._labels,
            purpose=TRAINING,
        )
        return self._storage.InspectSamples(request)

    def trainable(self, cover: tuple[KeyRange, ...]) -> Trainable:
        """Which samples in some ranges are live, labelled and not for tests only.

        Raises:
            InvalidInputError: the dataset has fewer keys.
        """
        info = self.inspect(cover)
        if info.num_unlabelled == 0 and info.num_samples == sum(len(r) for r in cover):
            return Trainable(cover)
        # The counts cannot say which samples it is: only now read a column, keeping as little of it as can be.
        labelled, unlabelled = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for batch in stream_columns(
            self._storage,
            self._dataset,
            KeySet(ranges=cover),
            columns=[Column.LABEL],
            order=Order.KEY,
            end_key=self._end_key,
            labels=self._labels,
            purpose=TRAINING,
        ):
            keys = int64_column(batch, "key")
            valid = batch.column("label").is_valid().to_numpy(zero_copy_only=False)
            labelled.append(keys[valid])
            unlabelled.append(keys[~valid])
        return Trainable(cover, np.concatenate(labelled), np.concatenate(unlabelled))

    def _column(self, keys: KeySet, column: Column.ValueType, name: str) -> pa.Array:
        if keys.ranges is not None:
            # Several times cheaper than key by key, but without what was not live then.
            live = self._read(keys, column, Order.KEY, self._end_key).column(name)
            if len(live) == len(keys):
                return live.combine_chunks()
        values = self._read(keys, column, Order.REQUEST, None).column(name)
        self._check_all(len(values), keys)
        return values.combine_chunks()

    def _check_all(self, num_found: int, keys: KeySet) -> None:
        if num_found != len(keys):
            raise ConflictError(
                f"{len(keys) - num_found} of {len(keys)} samples of dataset {self._dataset!r} were deleted while a "
                "training set was selected; ask for it again"
            )

    def _read(self, keys: KeySet, column: Column.ValueType, order: Order.ValueType, end_key: int | None) -> pa.Table:
        return read_columns(
            self._storage,
            self._dataset,
            keys,
            columns=[column],
            order=order,
            end_key=end_key,
            labels=self._labels,
            purpose=TRAINING,
        )


@dataclass(frozen=True, eq=False)
class Trainable:
    """The labelled and the unlabelled live keys of some ranges, ascending; both None where all are labelled."""

    cover: tuple[KeyRange, ...]
    labelled: Int64Array | None = None
    unlabelled: Int64Array | None = None

    def keep(self, keys: KeySet) -> KeySet:
        """The keys that can be trained on, in their order: live and labelled."""
        if self.labelled is None:
            return keys
        if keys.ranges == self.cover:
            return KeySet.from_array(self.labelled)
        array = keys.to_array()
        return KeySet.from_array(array[_contained(array, self.labelled)])

    def count_unlabelled(self, keys: KeySet) -> int:
        if self.unlabelled is None:
            return 0
        if keys.ranges == self.cover:
            return len(self.unlabelled)
        return int(np.count_nonzero(_contained(keys.to_array(), self.unlabelled)))


def _contained(keys: Int64Array, ascending: Int64Array) -> npt.NDArray[np.bool_]:
    if len(ascending) == 0:
        return np.zeros(len(keys), dtype=np.bool_)
    positions = np.searchsorted(ascending, keys)
    found: npt.NDArray[np.bool_] = ascending[np.minimum(positions, len(ascending) - 1)] == keys
    return found


def covering_ranges(keys: KeySet, *, distinct: bool = False) -> tuple[KeyRange, ...]:
    """At most :data:`MAX_RANGES` ascending ranges that contain all keys: exactly them, where so few can.

    Raises:
        InvalidInputError: a key appears twice although they must be distinct.
    """
    if keys.ranges is not None and len(keys.ranges) <= MAX_RANGES:
        return keys.ranges
    ordered = keys.to_array()
    bounds = run_bounds(ordered)
    if bounds is None:
        ordered = np.sort(ordered)
        bounds = run_bounds(ordered)
    if bounds is None and distinct:
        raise InvalidInputError("the new data of a trigger contain a key twice; expected every key once")
    starts, ends = bounds if bounds is not None else run_bounds(np.unique(ordered)) or (ordered, ordered)
    if len(starts) > MAX_RANGES:
        gaps = starts[1:] - ends[:-1]
        # Keep the widest gaps, of equal ones the first, so that the same keys always get the same cover.
        narrowest = np.partition(gaps, len(gaps) - (MAX_RANGES - 1))[len(gaps) - (MAX_RANGES - 1)]
        wider, equal = np.flatnonzero(gaps > narrowest), np.flatnonzero(gaps == narrowest)
        kept = np.sort(np.concatenate((wider, equal[: MAX_RANGES - 1 - len(wider)])))
        starts = np.concatenate((starts[:1], starts[kept + 1]))
        ends = np.concatenate((ends[kept], ends[-1:]))
    return tuple(KeyRange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True))
