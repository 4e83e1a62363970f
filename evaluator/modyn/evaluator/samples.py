"""The samples of an evaluation: keys and labels in order of event time, so that a window is a slice."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.evaluator.request import FIRST_SECOND, LAST_SECOND, Span
from modyn.proto.common_pb2 import Interval
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.label_versions import newest_label_version
from modyn.storage.reader import Column, Order, read_columns

MAX_READS = 16
"""Requests to storage for the columns of many windows; beyond it, gaps between windows are read too."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Live samples in (timestamp, key) order; those without a label only count.

    Attributes:
        keys: of labelled samples, int64 [n].
        timestamps: of labelled samples, int64 [n], ascending.
        labels: as stored, [n], no nulls.
        unlabelled_timestamps: of unlabelled samples, int64 [m], ascending.
    """

    keys: Int64Array
    timestamps: Int64Array
    labels: pa.Array
    unlabelled_timestamps: Int64Array

    def __len__(self) -> int:
        return len(self.keys)

    def only(self, kept: npt.NDArray[np.bool_]) -> Samples:
        """The labelled samples of a mask, bool [n], and all unlabelled ones."""
        return Samples(
            self.keys[kept], self.timestamps[kept], self.labels.filter(pa.array(kept)), self.unlabelled_timestamps
        )

    def within(self, window: Span) -> slice:
        """Positions of the labelled samples of a window."""
        start, end = np.searchsorted(self.timestamps, [window.start, window.end])
        return slice(int(start), int(end))

    def num_unlabelled(self, window: Span) -> int:
        start, end = np.searchsorted(self.unlabelled_timestamps, [window.start, window.end])
        return int(end - start)


def read_evaluation_samples(
    stub: StorageStub, dataset: str, windows: Iterable[Span], end_key: int | None, *, history: bool
) -> Samples:
    """The samples of all windows, each once; with ``history`` also all that are earlier than any of them.

    Labels are the newest ones, of one moment.
    """
    spans = list(windows)
    if history and spans:
        spans = [Span(FIRST_SECOND, max(span.end for span in spans))]
    labels = LabelsAsOf(version=newest_label_version(stub, dataset))
    tables = [
        read_columns(
            stub,
            dataset,
            _interval(span),
            columns=[Column.TIMESTAMP, Column.LABEL],
            order=Order.EVENT_TIME,
            end_key=end_key,
            labels=labels,
        )
        for span in covering(spans)
    ]
    if not tables:
        return _split(pa.table({name: pa.array([], pa.int64()) for name in ("key", "timestamp", "label")}))
    return _split(pa.concat_tables(tables).combine_chunks())


def deleted_of(stub: StorageStub, dataset: str, keys: Int64Array) -> Int64Array:
    """Those of some keys, int64 [n], that storage answers no longer."""
    if not len(keys):
        return keys
    there = read_columns(stub, dataset, KeySet.from_array(np.sort(keys)), order=Order.REQUEST)
    return np.setdiff1d(keys, _chunk(there["key"]).to_numpy(zero_copy_only=False))


def covering(spans: Sequence[Span], most: int = MAX_READS) -> list[Span]:
    """At most ``most`` disjoint spans, ascending, that cover all given ones; the smallest gaps are closed first.

    >>> covering([Span(0, 10), Span(5, 12), Span(100, 110), Span(14, 20)], most=2)
    [Span(start=0, end=20), Span(start=100, end=110)]
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    gaps = [after.start - before.end for before, after in itertools.pairwise(merged)]
    kept = sorted(sorted(range(len(gaps)), key=lambda i: gaps[i], reverse=True)[: most - 1])
    starts = [0, *(i + 1 for i in kept)]
    ends = [*kept, len(merged) - 1]
    return [Span(merged[a].start, merged[b].end) for a, b in zip(starts, ends, strict=True)] if merged else []


def class_labels(labels: pa.Array, dataset: str) -> Int64Array:
    """Stored labels as classes, int64 [n].

    Raises:
        InvalidInputError: they are no integers.
    """
    kind = labels.type
    if len(labels) and not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InvalidInputError(
            f"dataset {dataset!r} has labels of type {kind}, but classification metrics need integer classes; "
            "set label_transformer_function to turn labels into classes"
        )
    classes: Int64Array = labels.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return classes


def _interval(span: Span) -> Interval:
    return Interval(
        start=None if span.start == FIRST_SECOND else span.start,
        end=None if span.end == LAST_SECOND else span.end,
    )


def _split(table: pa.Table) -> Samples:
    labels = _chunk(table["label"])
    keys = _chunk(table["key"]).to_numpy(zero_copy_only=False)
    timestamps = _chunk(table["timestamp"]).to_numpy(zero_copy_only=False)
    if labels.null_count == 0:
        return Samples(keys, timestamps, labels, np.empty(0, dtype=np.int64))
    valid = labels.is_valid().to_numpy(zero_copy_only=False)
    return Samples(keys[valid], timestamps[valid], labels.drop_null(), timestamps[~valid])


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
