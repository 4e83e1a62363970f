"""What the Python client does with datasets, where that is more than one call of storage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import slices
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet, ranges_to_proto
from modyn.core.rpc import cancel
from modyn.proto.storage_pb2 import (
    CompactDatasetRequest,
    CompactProgress,
    DeleteSamplesRequest,
    DescribeDatasetRequest,
    IngestProgress,
    IngestRequest,
    InspectSamplesRequest,
    LabelsAsOf,
    VerifyDatasetRequest,
    VerifyProgress,
    WatchDatasetRequest,
)
from modyn.proto.storage_pb2_grpc import StorageStub

Keys: TypeAlias = "KeySet | Sequence[KeyRange] | npt.ArrayLike"
"""Samples: a key set, ranges, or int64 keys as an array, an Arrow array or a list."""

Values: TypeAlias = "pa.Array | pa.ChunkedArray | npt.ArrayLike"
"""A column: NumPy, Arrow or a list."""

KEYS_PER_DELETION = 1 << 22
"""So many keys are deleted by one request; the server lists them one by one."""

Message = TypeVar("Message")


class Ingested(NamedTuple):
    """What looking at a source found.

    Attributes:
        files: new and changed files that were read.
        samples: in them.
        quarantined: files that could not be read; :meth:`modyn.client.Client.dataset` has the reasons.
        end_key: next key of the dataset.
    """

    files: int
    samples: int
    quarantined: int
    end_key: int


class Deleted(NamedTuple):
    """What deleting samples did.

    Attributes:
        num_deleted: samples deleted now.
        num_deleted_before: keys of samples that had been deleted before.
        source_files: the source's own files that the samples deleted now came from, as far as they are known; storage
            does not touch them. At most 100 names for each request.
        num_source_files: how many there are, at least.
    """

    num_deleted: int
    num_deleted_before: int
    source_files: list[str]
    num_source_files: int


class Verified(NamedTuple):
    """What verifying a dataset found.

    Attributes:
        files: files that are as they were written.
        num_bytes: in them.
        damaged: what is wrong with each of the others.
    """

    files: int
    num_bytes: int
    damaged: list[str]


class Compacted(NamedTuple):
    """What compacting a dataset did; ``bytes_removed`` is negative if segments grew."""

    segments_before: int
    segments_after: int
    bytes_removed: int


class NewKeys(NamedTuple):
    """Samples that were committed together.

    Attributes:
        keys: of the samples.
        arrival: when they reached storage, Unix seconds.
    """

    keys: KeyRange
    arrival: int


def key_set(keys: Keys, *, single: bool = False) -> KeySet:
    """Keys as a set.

    Args:
        single: keys given one by one stay so, even where they ascend in few runs.

    Raises:
        InvalidInputError: they are no whole numbers.
    """
    if isinstance(keys, KeySet):
        return keys
    if isinstance(keys, Sequence) and len(keys) and all(isinstance(part, KeyRange) for part in keys):
        return KeySet.from_ranges(part for part in keys if isinstance(part, KeyRange))
    array = np.asarray(keys)
    if array.size == 0:
        return KeySet.from_ranges([])
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidInputError(
            f"keys: expected a column of whole numbers, got {array.dtype} of {array.ndim} dimensions; "
            "ranges are given as KeyRange(start, end)"
        )
    return KeySet(array=array.astype(np.int64)) if single else KeySet.from_array(array)


def label_batches(keys: Keys, labels: Values, label_times: Values | int | None) -> list[pa.RecordBatch]:
    """The columns of a label batch.

    Raises:
        InvalidInputError: they have different lengths, or cannot be columns.
    """
    is_arrow = isinstance(keys, pa.Array | pa.ChunkedArray)
    key = _column("keys", keys) if is_arrow else pa.array(key_set(keys, single=True).to_array())
    columns = {"key": key, "label": _column("labels", labels)}
    if label_times is not None:
        same = isinstance(label_times, int | np.integer)
        times = np.full(len(columns["key"]), label_times, dtype=np.int64) if same else label_times
        columns["label_time"] = _column("label_times", times)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(f"set_labels got columns of different lengths ({lengths}); expected one entry a sample")
    return [pa.record_batch(list(columns.values()), names=list(columns))]


def labels_as_of(label_time: int | None, arrival: int | None, version: int | None) -> LabelsAsOf | None:
    """Which labels a reader sees; None: the newest."""
    if label_time is None and arrival is None and version is None:
        return None
    return LabelsAsOf(label_time=label_time, arrival=arrival, version=version)


def delete_samples(stub: StorageStub, dataset: str, keys: KeySet) -> Deleted:
    """See :meth:`modyn.client.Client.delete_samples`."""
    parts = _deletions(keys)
    first, second = next(parts, keys), next(parts, None)
    if second is not None:  # whether all exist is to be known before any is deleted
        for key in _bounds(keys):
            ranges = ranges_to_proto([KeyRange(key, key + 1)])
            stub.InspectSamples(InspectSamplesRequest(dataset=dataset, ranges=ranges))
    deleted = before = most = 0
    files: dict[str, None] = {}
    for part in itertools.chain([first], [] if second is None else [second], parts):
        answer = stub.DeleteSamples(DeleteSamplesRequest(dataset=dataset, keys=part.to_proto()))
        deleted += answer.num_deleted
        before += answer.num_deleted_before
        files.update(dict.fromkeys(answer.source_files))
        most = max(most, answer.num_source_files)
    return Deleted(deleted, before, list(files), max(most, len(files)))


def _bounds(keys: KeySet) -> tuple[int, int]:
    """Smallest and largest key."""
    if keys.array is not None:
        return int(keys.array.min()), int(keys.array.max())
    assert keys.ranges is not None
    return min(r.start for r in keys.ranges), max(r.end for r in keys.ranges) - 1


def _deletions(keys: KeySet) -> Iterator[KeySet]:
    """Parts of a set, each for a request of about 1 MiB that asks for not too many samples."""
    for message in keys.to_protos():
        ranges: list[KeyRange] = []
        size = 0
        part = KeySet.from_proto(message)
        if part.ranges is None:
            yield part
            continue
        for one in part.ranges:
            for piece in slices(len(one), KEYS_PER_DELETION):
                ranges.append(KeyRange(one.start + piece.start, one.start + piece.stop))
                size += len(ranges[-1])
                if size >= KEYS_PER_DELETION:
                    yield KeySet(ranges=tuple(ranges))
                    ranges, size = [], 0
        if ranges:
            yield KeySet(ranges=tuple(ranges))


def ingest(stub: StorageStub, dataset: str, progress: Callable[[IngestProgress], None] | None) -> Ingested:
    """See :meth:`modyn.client.Client.ingest`."""
    last = IngestProgress()
    for last in _told(stub.Ingest(IngestRequest(dataset=dataset)), progress):  # noqa: B007
        pass
    return Ingested(last.files_done, last.samples, last.quarantined, last.end_key)


def verify(stub: StorageStub, dataset: str, progress: Callable[[VerifyProgress], None] | None) -> Verified:
    """See :meth:`modyn.client.Client.verify`."""
    last = VerifyProgress()
    damaged: list[str] = []
    for last in _told(stub.VerifyDataset(VerifyDatasetRequest(dataset=dataset)), progress):
        damaged += last.damaged
    return Verified(last.files_done, last.bytes_done, damaged)


def compact(stub: StorageStub, dataset: str, progress: Callable[[CompactProgress], None] | None) -> Compacted:
    """See :meth:`modyn.client.Client.compact`."""
    last = CompactProgress()
    for last in _told(stub.CompactDataset(CompactDatasetRequest(dataset=dataset)), progress):  # noqa: B007
        pass
    return Compacted(last.segments_before, last.segments_after, last.bytes_removed)


def watch(stub: StorageStub, dataset: str, cursor: int | None) -> Iterator[NewKeys]:
    """See :meth:`modyn.client.Client.watch_dataset`."""
    if cursor is None:
        cursor = stub.DescribeDataset(DescribeDatasetRequest(name=dataset)).end_key
    for new in _told(stub.WatchDataset(WatchDatasetRequest(dataset=dataset, cursor=cursor)), None):
        yield NewKeys(KeyRange(new.keys.start, new.keys.end), new.arrival)


def _told(stream: Iterator[Message], progress: Callable[[Message], None] | None) -> Iterator[Message]:
    """A stream whose messages are also shown; who stops reading ends the work."""
    try:
        for message in stream:
            if progress is not None:
                progress(message)
            yield message
    finally:
        cancel(stream)


def _column(what: str, values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    try:
        if isinstance(values, np.ndarray) and values.ndim > 1:
            values = list(values)
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise InvalidInputError(f"{what}: cannot be a column: {error}; expected one kind of values") from error
