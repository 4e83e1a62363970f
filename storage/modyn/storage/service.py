"""The storage service: every rpc of ``storage.proto``, each handed on to the object that does the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import cast

import grpc
import numpy as np
import pyarrow as pa

from modyn.core.arrow import encode_batch
from modyn.core.catalog import Catalog
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet, ranges_from_proto
from modyn.core.rpc import as_arrow_messages
from modyn.core.state import StateDirectory
from modyn.core.values import from_value, to_value
from modyn.core.versions import SEGMENT_FORMAT_VERSION
from modyn.proto import common_pb2, storage_pb2
from modyn.proto.storage_pb2 import ReadColumnsRequest
from modyn.proto.storage_pb2_grpc import StorageServicer, add_StorageServicer_to_server
from modyn.storage.appending import receive
from modyn.storage.catalog import StorageCatalog
from modyn.storage.columns import columns_by_key, columns_by_time, columns_of_keys
from modyn.storage.dataset import Dataset
from modyn.storage.datasets import Datasets
from modyn.storage.inspection import content_digest, inspect
from modyn.storage.model_store import ModelStore
from modyn.storage.samples import read_samples
from modyn.storage.scan import ScanProgress
from modyn.storage.view import Part, Span, View

Column = ReadColumnsRequest.Column
Order = ReadColumnsRequest.Order

PROGRESS_SECONDS = 0.1
"""Least time between two messages of progress."""


class StorageService(StorageServicer):
    """Datasets, samples and models of one state directory.

    Args:
        state: holds segments below ``datasets/`` and models below ``models/``.
        catalog: holds the small facts about them.
    """

    def __init__(self, state: StateDirectory, catalog: Catalog) -> None:
        self._catalog = StorageCatalog(catalog)
        self._datasets = Datasets(state.folder("datasets"), self._catalog)
        self._models = ModelStore(state.folder("models"))

    def add_to(self, server: grpc.Server) -> None:
        add_StorageServicer_to_server(self, server)

    def close(self) -> None:
        """Ends watch streams and watchers; returns when their threads have ended."""
        self._datasets.close()

    # ------------------------------------------------------------------------------------------ datasets

    def RegisterDataset(
        self, request: storage_pb2.RegisterDatasetRequest, context: grpc.ServicerContext
    ) -> storage_pb2.Dataset:
        source = from_value(request.source) if request.HasField("source") else None
        if source is not None and not isinstance(source, dict):
            raise InvalidInputError(f"data.source {source!r}: expected a mapping with the keys `format` and `path`")
        dataset = self._datasets.register(request.name, source)
        return storage_pb2.Dataset(name=dataset.name, end_key=dataset.snapshot.end_key)

    def ListDatasets(
        self, request: storage_pb2.ListDatasetsRequest, context: grpc.ServicerContext
    ) -> storage_pb2.ListDatasetsResponse:
        return storage_pb2.ListDatasetsResponse(datasets=[self._describe(dataset) for dataset in self._datasets.all()])

    def DescribeDataset(
        self, request: storage_pb2.DescribeDatasetRequest, context: grpc.ServicerContext
    ) -> storage_pb2.DatasetDescription:
        return self._describe(self._datasets.get(request.name))

    def _describe(self, dataset: Dataset) -> storage_pb2.DatasetDescription:
        view = dataset.view()
        snapshot = view.snapshot
        live = inspect(view, Part(snapshot.end_key))
        return storage_pb2.DatasetDescription(
            name=dataset.name,
            source=None if dataset.source is None else to_value(dataset.source),
            end_key=snapshot.end_key,
            num_samples=live.num_samples,
            num_unlabelled=live.num_unlabelled,
            num_superseded=snapshot.end_key - live.num_samples,
            first_timestamp=live.first_timestamp,
            last_timestamp=live.last_timestamp,
            num_segments=len(snapshot.segments),
            num_bytes=snapshot.num_bytes,
            num_files=snapshot.num_files,
            quarantined=[
                storage_pb2.QuarantinedFile(path=row.path, reason=row.reason, at=row.at)
                for row in self._catalog.quarantined(dataset.id)
            ],
            payload=[
                storage_pb2.PayloadColumn(name=field.name, type=str(field.type))
                for field in snapshot.schema.payload or ()
            ],
            last_arrival=snapshot.last_arrival,
            segment_format_version=SEGMENT_FORMAT_VERSION,
        )

    # ---------------------------------------------------------------------------------------------- data in

    def Ingest(
        self, request: storage_pb2.IngestRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.IngestProgress]:
        dataset = self._datasets.get(request.dataset)
        source = self._datasets.source(request.dataset)
        if source is None:  # whatever was appended is there already
            yield storage_pb2.IngestProgress(end_key=dataset.snapshot.end_key)
            return
        reported = 0.0
        progress = ScanProgress(files_total=0)
        for progress in source.ingest():
            if not context.is_active():
                return
            if time.monotonic() - reported >= PROGRESS_SECONDS:
                yield _progress(progress, dataset)
                reported = time.monotonic()
        yield _progress(progress, dataset)

    def Append(
        self, request_iterator: Iterator[common_pb2.ArrowMessage], context: grpc.ServicerContext
    ) -> storage_pb2.AppendResponse:
        messages = cast("Iterator[bytes]", request_iterator)  # see modyn.core.rpc
        commit, repeated = receive(self._datasets, messages, context.is_active)
        keys = common_pb2.KeyRange(start=commit.first_key, end=commit.end_key)
        return storage_pb2.AppendResponse(keys=keys, repeated_batch=repeated)

    def WatchDataset(
        self, request: storage_pb2.WatchDatasetRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.NewData]:
        dataset = self._datasets.get(request.dataset)
        source = self._datasets.source(request.dataset)
        if not context.add_callback(dataset.wake):
            return  # the caller is gone already
        with source.watched() if source is not None else nullcontext():
            for keys, arrival in dataset.watch(request.cursor, context.is_active):
                yield storage_pb2.NewData(keys=common_pb2.KeyRange(start=keys.start, end=keys.end), arrival=arrival)

    # --------------------------------------------------------------------------------------------- data out

    def InspectSamples(
        self, request: storage_pb2.InspectSamplesRequest, context: grpc.ServicerContext
    ) -> storage_pb2.SamplesInfo:
        view = self._datasets.get(request.dataset).view()
        part = Part(_end_key(request, view))
        if request.WhichOneof("part") == "ranges":
            ranges = ranges_from_proto(request.ranges)
            view.snapshot.check_ranges(view.name, ranges)
            part = Part(part.end_key, ranges=ranges)
        elif request.WhichOneof("part") == "interval":
            part = Part(part.end_key, Span.from_proto(request.interval))
        info = inspect(view, part)
        return storage_pb2.SamplesInfo(
            num_samples=info.num_samples,
            num_unlabelled=info.num_unlabelled,
            first_timestamp=info.first_timestamp,
            last_timestamp=info.last_timestamp,
            content_digest=content_digest(view, part),
        )

    def ReadColumns(
        self, request: ReadColumnsRequest, context: grpc.ServicerContext
    ) -> Iterator[common_pb2.ArrowMessage]:
        view = self._datasets.get(request.dataset).view()
        return as_arrow_messages(map(encode_batch, _read_columns(view, request)))

    def ReadSamples(
        self, request: storage_pb2.ReadSamplesRequest, context: grpc.ServicerContext
    ) -> Iterator[common_pb2.ArrowMessage]:
        view = self._datasets.get(request.dataset).view()
        keys = KeySet.from_proto(request.keys)
        _check_keys(view, keys)
        return as_arrow_messages(map(encode_batch, read_samples(view, keys, request.columns)))

    # ----------------------------------------------------------------------------------------------- models

    def StoreModel(
        self, request_iterator: Iterator[storage_pb2.ModelChunk], context: grpc.ServicerContext
    ) -> storage_pb2.StoredModel:
        digest, size = self._models.store(chunk.data for chunk in request_iterator)
        return storage_pb2.StoredModel(digest=digest, num_bytes=size)

    def FetchModel(
        self, request: storage_pb2.FetchModelRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.ModelChunk]:
        return (storage_pb2.ModelChunk(data=data) for data in self._models.fetch(request.digest))

    def DescribeModel(
        self, request: storage_pb2.FetchModelRequest, context: grpc.ServicerContext
    ) -> storage_pb2.StoredModel:
        return storage_pb2.StoredModel(digest=request.digest, num_bytes=self._models.size(request.digest))


def _progress(progress: ScanProgress, dataset: Dataset) -> storage_pb2.IngestProgress:
    return storage_pb2.IngestProgress(
        files_done=progress.files_done,
        files_total=progress.files_total,
        samples=progress.samples,
        quarantined=progress.quarantined,
        end_key=dataset.snapshot.end_key,
    )


def _read_columns(view: View, request: ReadColumnsRequest) -> Iterator[pa.RecordBatch]:
    columns = list(request.columns)
    if Column.COLUMN_UNSPECIFIED in columns or len(set(columns)) < len(columns):
        raise InvalidInputError("columns: expected each of TIMESTAMP, ARRIVAL and LABEL at most once")
    end_key = _end_key(request, view)
    arrival = Span.from_proto(request.arrival)
    by_time = request.order == Order.EVENT_TIME
    kind = request.WhichOneof("part")
    if kind == "keys":
        keys = KeySet.from_proto(request.keys)
        _check_keys(view, keys)
        if request.order == Order.KEY and keys.array is not None:
            keys = KeySet(array=np.sort(keys.array))
        return columns_of_keys(view, keys, columns, end_key=end_key, arrival=arrival, by_time=by_time)
    if request.order == Order.REQUEST:
        raise InvalidInputError("order REQUEST needs `keys`; an interval or ranges come in order KEY or EVENT_TIME")
    part = Part(end_key, Span.from_proto(request.interval), arrival=arrival)
    if kind == "ranges":
        ranges = ranges_from_proto(request.ranges)
        view.snapshot.check_ranges(view.name, ranges)
        part = Part(end_key, ranges=ranges, arrival=arrival)
    return columns_by_time(view, part, columns) if by_time else columns_by_key(view, part, columns)


def _check_keys(view: View, keys: KeySet) -> None:
    if keys.ranges is not None:
        view.snapshot.check_ranges(view.name, keys.ranges)
    else:
        view.snapshot.check_keys(view.name, keys.to_array())


def _end_key(request: ReadColumnsRequest | storage_pb2.InspectSamplesRequest, view: View) -> int:
    end = view.snapshot.end_key
    return max(0, min(request.end_key, end)) if request.HasField("end_key") else end
