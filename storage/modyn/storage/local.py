"""Reading samples straight from the files of a storage service on the same host."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array, decode_batch
from modyn.core.errors import CorruptDataError, ModynError, NotAvailableError
from modyn.core.keysets import KeySet
from modyn.proto.storage_pb2 import LocatedSegment, ReadSamplesRequest, SampleLocations
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.samples import SampleReader, select
from modyn.storage.segments import Segment, SegmentCache, SegmentInfo

logger = logging.getLogger(__name__)

MAX_OPEN_SEGMENTS = 1_024

BLOCK_BYTES = 4 << 20
"""Aimed-at size of what is gathered at once: handing it over to another thread is then cheap beside gathering it."""

LARGEST_BLOCK_BYTES = 256 << 20
"""It grows to this size if it then holds whole batches."""

_elsewhere: weakref.WeakSet[StorageStub] = weakref.WeakSet()
"""Services whose files are not on this host."""

_segments = SegmentCache(MAX_OPEN_SEGMENTS)


class LocalReader:
    """Answers the requests of one read.

    The service is asked once a request where its samples lie, so deletions, roles and late labels count as they do
    there.

    Args:
        batch_size: record batches hold whole batches.
        required: fail where the files cannot be read here.
    """

    def __init__(self, stub: StorageStub, batch_size: int, *, required: bool = False) -> None:
        self._stub = stub
        self._batch_size = batch_size
        self._required = required

    def batches(self, request: ReadSamplesRequest) -> Iterator[pa.RecordBatch] | None:
        """What ``ReadSamples`` would answer; None if the service has to be asked for that.

        Raises:
            NotAvailableError: the files cannot be read here, and it is required.
            ModynError: what the service says of the request.
        """
        if self._stub in _elsewhere and not self._required:
            return None
        try:
            located = self._located(request)
        except (NotAvailableError, CorruptDataError) as error:
            if self._required:
                raise
            logger.debug("samples of %r are read through the service: %s", request.dataset, error)
            return None
        return self._read(request, located)

    def _located(self, request: ReadSamplesRequest) -> _Located:
        answer = self._ask(request)
        try:
            return _Located(answer)
        except CorruptDataError:  # compaction may have replaced files meanwhile
            return _Located(self._ask(request))

    def _ask(self, request: ReadSamplesRequest) -> SampleLocations:
        answer: SampleLocations = self._stub.LocateSamples(request)
        if not _is_here(answer):
            _elsewhere.add(self._stub)
            raise NotAvailableError(
                f"the files of the storage service are not on this host (it has {answer.host_file or 'no host file'}); "
                "read with local=False"
            )
        return answer

    def _read(self, request: ReadSamplesRequest, located: _Located) -> Iterator[pa.RecordBatch]:
        reader = SampleReader(located, select(located.payload, request.columns or located.payload.names))
        empty = True
        left = KeySet.from_proto(request.keys) if located.keys is None else located.keys
        for keys in reader.windows(left, self._batch_size):
            for batch in reader.batches(keys, self._batch_size, target=BLOCK_BYTES, largest=LARGEST_BLOCK_BYTES):
                empty = False
                yield batch
        if empty:
            yield reader.none()


def _is_here(answer: SampleLocations) -> bool:
    try:
        return bool(answer.host_token) and Path(answer.host_file).read_text() == answer.host_token
    except (OSError, ValueError):
        return False


class _Located:
    """An answer of the service as a source of samples. All segments are open, whatever becomes of their files.

    Raises:
        CorruptDataError: a file is missing, or is not as it should be.
    """

    def __init__(self, answer: SampleLocations) -> None:
        folder = Path(answer.segments_folder)
        self.first_keys = np.array([segment.first_key for segment in answer.segments], dtype=np.int64)
        self.label_type = pa.ipc.read_schema(pa.py_buffer(answer.label_schema)).field(0).type
        self.payload = (
            pa.ipc.read_schema(pa.py_buffer(answer.payload_schema)) if answer.payload_schema else pa.schema([])
        )
        self.keys = KeySet.from_proto(answer.keys) if answer.HasField("keys") else None
        self._labels = decode_batch(answer.labels).column(0) if answer.labels else None
        self._given = 0
        """Labels given out so far."""
        try:
            self._opened = [_segments.get(folder, _info(segment)) for segment in answer.segments]
        except CorruptDataError:
            raise
        except ModynError as error:  # such as files of a remote source, which only the service fetches
            raise NotAvailableError(f"samples cannot be read from files here: {error.message}") from error
        if not all(segment.is_whole for segment in self._opened):
            raise CorruptDataError("files that samples lie in are gone or were changed; the service tells which")

    def segment(self, index: int) -> Segment:
        return self._opened[index]

    def labels_of(self, keys: Int64Array, labels: pa.Array, timestamps: Int64Array) -> pa.Array:
        """Keys are asked for in order, each once."""
        if self._labels is None:
            return labels
        first, self._given = self._given, self._given + len(keys)
        return self._labels.slice(first, len(keys))


def _info(segment: LocatedSegment) -> SegmentInfo:
    """What opening a segment takes."""
    return SegmentInfo(
        name=segment.name,
        kind=segment.kind,
        first_key=segment.first_key,
        num_samples=segment.num_samples,
        num_unlabelled=0,
        min_timestamp=0,
        max_timestamp=0,
        min_arrival=0,
        max_arrival=0,
        role=None,
        payload_bytes=segment.payload_bytes,
        columns_bytes=segment.columns_bytes,
        digest=segment.digest,
        format_version=segment.format_version,
    )
