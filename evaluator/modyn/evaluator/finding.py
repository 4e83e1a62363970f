"""Asking storage for the samples of an evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from modyn.core.alignment import rows_of
from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.evaluator.known_labels import known_labels
from modyn.evaluator.recent import Columns, RecentColumns, hull
from modyn.evaluator.request import FIRST_SECOND, LAST_SECOND, Span
from modyn.evaluator.samples import AS_INGESTED, BoolArray, Contents, Samples
from modyn.proto.common_pb2 import Interval, KeyRange, KeyRanges
from modyn.proto.storage_pb2 import InspectSamplesRequest, LabelsAsOf, Role
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import Column, Order, read_columns, read_samples

MAX_READS = 16
"""Requests to storage for the columns of many windows; beyond it, gaps between windows are read too."""

SLICE_BATCH = 1 << 16
"""Samples read at once for the values of columns to slice by."""


def read_evaluation_samples(
    stub: StorageStub,
    dataset: str,
    windows: Iterable[Span],
    end_key: int | None,
    *,
    history: bool,
    test_only: bool = False,
    labels_as_known: bool = False,
    label_delay: int = 0,
    slices: Sequence[str] = (),
    recent: RecentColumns | None = None,
) -> Samples:
    """The samples of all windows, each once; with ``history`` also all that are earlier than any of them.

    Labels are of one moment. Samples that are deleted meanwhile may be among them.

    Args:
        end_key: samples from this key on are ignored.
        test_only: only samples of role ``test`` are there, nor are there others before the windows.
        labels_as_known: each window is scored with the labels that were known at its end (:attr:`Samples.known`).
        label_delay: seconds after its event time that a label which came with its sample is known.
        slices: payload columns to slice by.
        recent: columns that were read lately.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: there is no such column to slice by, or it holds no plain values.
    """
    spans = tuple(windows)
    reader = _Reader(stub, dataset, end_key)
    read = [Span(FIRST_SECOND, max(span.end for span in spans))] if history and spans else spans
    columns = reader.columns(covering(read), recent or RecentColumns(0))
    if test_only:
        columns = columns.only(columns.is_test)
    if labels_as_known:
        samples = known_labels(columns, spans, label_delay, reader.read_known if reader.label_version > 0 else None)
    else:
        samples = _newest(columns, spans, label_delay)
    return _with_payload(stub, dataset, samples, reader.contents(samples.keys), slices)


def deleted_of(stub: StorageStub, dataset: str, keys: Int64Array) -> Int64Array:
    """Those of some keys, int64 [n], that storage answers no longer."""
    if not len(keys):
        return keys
    there = read_columns(stub, dataset, KeySet.from_array(np.sort(keys)), order=Order.REQUEST)
    return np.setdiff1d(keys, there["key"].to_numpy())


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


class _Reader:
    """Reads columns as of when it was made: of the samples that were there, with the labels that were known."""

    def __init__(self, stub: StorageStub, dataset: str, end_key: int | None) -> None:
        now = stub.InspectSamples(InspectSamplesRequest(dataset=dataset, ranges=KeyRanges()))
        self._stub = stub
        self._dataset = dataset
        self._end_key = now.end_key if end_key is None else min(end_key, now.end_key)
        self.label_version = now.label_version

    def columns(self, spans: Sequence[Span], recent: RecentColumns) -> Columns:
        """Of disjoint spans, together."""
        if not spans:
            return self.read(Span(0, 0))
        found = recent.find(self._dataset, spans, self._content_digest)
        if found is None:
            digest = self._content_digest(hull(spans))
            found = [self.read(span) for span in spans]
            recent.keep(self._dataset, digest, list(zip(spans, found, strict=True)))
        columns = Columns.join(found)
        if self.label_version and columns.label_times is None:  # read before there were later labels; these have none
            columns = replace(columns, label_times=np.full(len(columns), AS_INGESTED, dtype=np.int64))
        return columns

    def read(self, span: Span) -> Columns:
        """Of one span, with the newest labels."""
        return self._columns(_interval(span), Order.EVENT_TIME, LabelsAsOf(version=self.label_version))

    def read_known(self, keys: Int64Array, second: int) -> Columns:
        """Of some keys, int64 [k], ascending, with the labels that were known at a second; without deleted samples."""
        labels = LabelsAsOf(version=self.label_version, label_time=None if second == LAST_SECOND else second)
        return self._columns(KeySet.from_array(keys), Order.KEY, labels)

    def _columns(self, part: KeySet | Interval, order: Order.ValueType, labels: LabelsAsOf) -> Columns:
        columns = [Column.TIMESTAMP, Column.LABEL, Column.ROLE]
        if self.label_version:
            columns.append(Column.LABEL_TIME)
        end_key = None if isinstance(part, KeySet) else self._end_key
        table = read_columns(
            self._stub, self._dataset, part, columns=columns, order=order, end_key=end_key, labels=labels
        )
        times: Int64Array | None = None
        if self.label_version:
            times = _chunk(table["label_time"]).fill_null(AS_INGESTED).to_numpy()
        return Columns(
            _chunk(table["key"]).to_numpy(),
            _chunk(table["timestamp"]).to_numpy(),
            _chunk(table["label"]),
            times,
            _chunk(table["role"]).to_numpy() == Role.TEST,
        )

    def contents(self, keys: Int64Array) -> Contents:
        """What storage was given between the smallest and the largest of some keys."""
        if not len(keys):
            return Contents()
        ranges = KeyRanges(ranges=[KeyRange(start=int(keys.min()), end=int(keys.max()) + 1)])
        request = InspectSamplesRequest(
            dataset=self._dataset, ranges=ranges, labels=LabelsAsOf(version=0), contents=True
        )
        return Contents.of(self._stub.InspectSamples(request).contents)

    def _content_digest(self, span: Span) -> str:
        request = InspectSamplesRequest(
            dataset=self._dataset,
            interval=_interval(span),
            end_key=self._end_key,
            labels=LabelsAsOf(version=self.label_version),
        )
        return self._stub.InspectSamples(request).content_digest


def _newest(columns: Columns, windows: tuple[Span, ...], label_delay: int) -> Samples:
    unlabelled = np.empty(0, dtype=np.int64)
    if columns.labels.null_count:
        labelled = columns.labels.is_valid().to_numpy(zero_copy_only=False)
        unlabelled, columns = columns.timestamps[~labelled], columns.only(labelled)
    return Samples(
        columns.keys,
        columns.timestamps,
        columns.labels,
        unlabelled,
        columns.is_test,
        columns.label_times,
        label_delay,
        windows,
    )


def _with_payload(
    stub: StorageStub, dataset: str, samples: Samples, contents: Contents, slices: Sequence[str]
) -> Samples:
    values: Mapping[str, pa.Array] = {}
    if slices:
        inside = np.zeros(len(samples), dtype=np.bool_)
        for window in samples.windows:
            inside[samples.within(window)] = True
        values = _payload(stub, dataset, samples.keys, inside, slices)
    return samples.with_payload(contents, values)


def _payload(
    stub: StorageStub, dataset: str, keys: Int64Array, wanted: BoolArray, names: Sequence[str]
) -> dict[str, pa.Array]:
    """Payload columns of some samples, [n] each; null for the others, and for samples that were deleted meanwhile."""
    asked = keys[wanted]
    batches = list(read_samples(stub, dataset, KeySet.from_array(asked), batch_size=SLICE_BATCH, columns=names))
    if not batches:
        return {name: pa.nulls(len(keys), pa.string()) for name in names}
    read = np.concatenate([batch.keys for batch in batches])
    place = rows_of(read, keys)
    rows = pa.array(place, mask=place < 0)
    found = {}
    for name in names:
        column = pa.chunked_array([batch.columns[name] for batch in batches]).combine_chunks()
        found[name] = _plain(column, name, dataset).take(rows)
    return found


def _plain(column: pa.Array, name: str, dataset: str) -> pa.Array:
    kind = column.type
    if pa.types.is_nested(kind) or any(
        is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    ):
        raise InvalidInputError(
            f"slices: column {name!r} of dataset {dataset!r} is {kind}; expected a column of numbers, text, "
            "booleans or times"
        )
    return column


def _interval(span: Span) -> Interval:
    return Interval(
        start=None if span.start == FIRST_SECOND else span.start,
        end=None if span.end == LAST_SECOND else span.end,
    )


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
