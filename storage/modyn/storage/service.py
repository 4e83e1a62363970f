"""The storage service: every rpc of ``storage.proto``, each handed on to the object that does the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
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
from modyn.core.values import from_value
from modyn.proto import common_pb2, storage_pb2
from modyn.proto.storage_pb2 import Purpose, ReadColumnsRequest
from modyn.proto.storage_pb2_grpc import add_StorageServicer_to_server
from modyn.storage.appending import Receiver
from modyn.storage.asof import NEWEST, AsOf
from modyn.storage.catalog import StorageCatalog
from modyn.storage.columns import columns_by_key, columns_by_time, columns_of_keys
from modyn.storage.dataset import Dataset
from modyn.storage.datasets import Datasets
from modyn.storage.describing import described, files_with
from modyn.storage.inspection import content_digest, contents, inspect
from modyn.storage.locating import HostToken, locations
from modyn.storage.model_rpcs import ModelRpcs
from modyn.storage.model_store import ModelStore
from modyn.storage.samples import read_samples
from modyn.storage.scan import ScanProgress
from modyn.storage.verifying import VerifyProgress, verify
from modyn.storage.view import Part, Span, View

Column = ReadColumnsRequest.Column
Order = ReadColumnsRequest.Order

MAX_FILES_NAMED = 100
"""Files that one answer names."""

PROGRESS_SECONDS = 0.1
"""Least time between two messages of progress."""


class StorageService(ModelRpcs):
    """Datasets, samples and models of one state directory.

    Args:
        state: holds segments below ``datasets/`` and models below ``models/``.
        catalog: holds the small facts about them.
        read_only: serve reads beside another process that writes.
    """

    def __init__(self, state: StateDirectory, catalog: Catalog, *, read_only: bool = False) -> None:
        self._catalog = StorageCatalog(catalog)
        self._host = HostToken(state.folder("datasets"))
        self._datasets = Datasets(state.folder("datasets"), self._catalog, read_only=read_only)
        self._receiver = Receiver(self._datasets)
        self.models = ModelStore(state.folder("models"), read_only=read_only)

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
        dataset = self._datasets.register(request.name, source, request.role)
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
        return described(dataset, self._catalog, read_only=self._datasets.read_only)

    # ---------------------------------------------------------------------------------------------- data in

    def Ingest(
        self, request: storage_pb2.IngestRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.IngestProgress]:
        dataset = self._datasets.get(request.dataset)
        source = self._datasets.source(request.dataset)
        if self._datasets.read_only:
            self._datasets.writer(request.dataset).begin()  # which refuses
        if source is None:  # whatever was appended is there already
            yield storage_pb2.IngestProgress(end_key=dataset.snapshot.end_key)
            return
        pace = _Pace()
        progress = ScanProgress(files_total=0)
        for progress in source.ingest():
            if not context.is_active():
                return
            if pace.is_due():
                yield _progress(progress, dataset)
        yield _progress(progress, dataset)

    def Append(
        self, request_iterator: Iterator[common_pb2.ArrowMessage], context: grpc.ServicerContext
    ) -> storage_pb2.AppendResponse:
        messages = cast("Iterator[bytes]", request_iterator)  # see modyn.core.rpc
        batch, repeated = self._receiver.append(messages, context.is_active)
        keys = common_pb2.KeyRange(start=batch.first_key, end=batch.end_key)
        return storage_pb2.AppendResponse(keys=keys, repeated_batch=repeated)

    def SetLabels(
        self, request_iterator: Iterator[common_pb2.ArrowMessage], context: grpc.ServicerContext
    ) -> storage_pb2.SetLabelsResponse:
        messages = cast("Iterator[bytes]", request_iterator)  # see modyn.core.rpc
        batch, repeated = self._receiver.set_labels(messages, context.is_active)
        return storage_pb2.SetLabelsResponse(
            version=batch.version,
            num_labels=batch.num_labels,
            num_corrected=batch.num_corrected,
            repeated_batch=repeated,
            arrival=batch.arrival,
        )

    def DeleteSamples(
        self, request: storage_pb2.DeleteSamplesRequest, context: grpc.ServicerContext
    ) -> storage_pb2.DeleteSamplesResponse:
        writer = self._datasets.writer(request.dataset)
        keys = KeySet.from_proto(request.keys)
        _check_keys(writer.dataset.view(), keys)
        runs, before = writer.delete(keys.to_array())
        files = files_with(writer.dataset, runs)
        return storage_pb2.DeleteSamplesResponse(
            num_deleted=len(runs),
            num_deleted_before=before,
            source_files=files[:MAX_FILES_NAMED],
            num_source_files=len(files),
        )

    def VerifyDataset(
        self, request: storage_pb2.VerifyDatasetRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.VerifyProgress]:
        told = 0
        pace = _Pace()
        for progress in verify(self._datasets.get(request.dataset)):
            if not context.is_active():
                return
            if len(progress.damaged) > told or pace.is_due():
                yield _verified(progress, told)
                told = len(progress.damaged)
        yield _verified(progress, told)

    def CompactDataset(
        self, request: storage_pb2.CompactDatasetRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.CompactProgress]:
        for progress in self._datasets.compactor(request.dataset).run(everything=True):
            if not context.is_active():
                return
            yield storage_pb2.CompactProgress(**asdict(progress))

    def WatchDataset(
        self, request: storage_pb2.WatchDatasetRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.NewData]:
        dataset = self._datasets.get(request.dataset)
        source = None if self._datasets.read_only else self._datasets.source(request.dataset)  # the writer looks at it
        if not context.add_callback(dataset.wake):
            return  # the caller is gone already
        with source.watched() if source is not None else nullcontext():
            for keys, arrival in dataset.watch(request.cursor, context.is_active):
                yield storage_pb2.NewData(keys=common_pb2.KeyRange(start=keys.start, end=keys.end), arrival=arrival)

    # --------------------------------------------------------------------------------------------- data out

    def InspectSamples(
        self, request: storage_pb2.InspectSamplesRequest, context: grpc.ServicerContext
    ) -> storage_pb2.SamplesInfo:
        view = self._view(request)
        part = Part(_end_key(request, view), training=request.purpose == Purpose.TRAINING)
        if request.WhichOneof("part") == "ranges":
            ranges = ranges_from_proto(request.ranges)
            view.snapshot.check_ranges(view.name, ranges)
            part = replace(part, ranges=ranges)
        elif request.WhichOneof("part") == "interval":
            part = replace(part, span=Span.from_proto(request.interval))
        info = inspect(view, part)
        label_version = view.snapshot.label_version
        if request.HasField("end_key"):
            dataset = self._datasets.get(request.dataset)
            label_version = min(label_version, dataset.label_version_before(request.end_key - 1))
        return storage_pb2.SamplesInfo(
            num_samples=info.num_samples,
            num_unlabelled=info.num_unlabelled,
            first_timestamp=info.first_timestamp,
            last_timestamp=info.last_timestamp,
            content_digest=content_digest(view, part),
            end_key=view.snapshot.end_key,
            label_version=label_version,
            contents=_contents(view, part) if request.contents else (),
        )

    def ReadColumns(
        self, request: ReadColumnsRequest, context: grpc.ServicerContext
    ) -> Iterator[common_pb2.ArrowMessage]:
        view = self._view(request)
        return as_arrow_messages(map(encode_batch, _read_columns(view, request)))

    def ReadSamples(
        self, request: storage_pb2.ReadSamplesRequest, context: grpc.ServicerContext
    ) -> Iterator[common_pb2.ArrowMessage]:
        view = self._view(request)
        keys = KeySet.from_proto(request.keys)
        _check_keys(view, keys, request.purpose)
        batches = read_samples(view, keys, request.columns, batch_rows=max(1, request.batch_rows))
        return as_arrow_messages(map(encode_batch, batches))

    def LocateSamples(
        self, request: storage_pb2.ReadSamplesRequest, context: grpc.ServicerContext
    ) -> storage_pb2.SampleLocations:
        view = self._view(request)
        keys = KeySet.from_proto(request.keys)
        _check_keys(view, keys, request.purpose)
        return locations(view, keys, request.columns, self._host)

    def _view(
        self, request: storage_pb2.InspectSamplesRequest | ReadColumnsRequest | storage_pb2.ReadSamplesRequest
    ) -> View:
        """The dataset as of now, with the labels that the request asks for."""
        as_of = AsOf.from_proto(request.labels) if request.HasField("labels") else NEWEST
        return self._datasets.get(request.dataset).view(as_of)

    # ----------------------------------------------------------------------------------------------- models

    def CollectModelGarbage(
        self, request: common_pb2.CollectGarbageRequest, context: grpc.ServicerContext
    ) -> Iterator[common_pb2.Garbage]:
        self._datasets.check_catalog()  # what another catalog names would all be garbage
        return super().CollectModelGarbage(request, context)


def _contents(view: View, part: Part) -> list[storage_pb2.SegmentContent]:
    columns = (contents(view, part).column(name).to_pylist() for name in ("first_key", "end_key", "digest"))
    return [
        storage_pb2.SegmentContent(first_key=first, end_key=end, digest=digest)
        for first, end, digest in zip(*columns, strict=True)
    ]


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
        raise InvalidInputError("columns: expected each of TIMESTAMP, ARRIVAL, LABEL, ROLE and LABEL_TIME at most once")
    end_key = _end_key(request, view)
    arrival = Span.from_proto(request.arrival)
    by_time = request.order == Order.EVENT_TIME
    kind = request.WhichOneof("part")
    if kind == "keys":
        keys = KeySet.from_proto(request.keys)
        _check_keys(view, keys, request.purpose)
        if request.order == Order.KEY and keys.array is not None:
            keys = KeySet(array=np.sort(keys.array))
        return columns_of_keys(view, keys, columns, end_key=end_key, arrival=arrival, by_time=by_time)
    if request.order == Order.REQUEST:
        raise InvalidInputError("order REQUEST needs `keys`; an interval or ranges come in order KEY or EVENT_TIME")
    training = request.purpose == Purpose.TRAINING
    part = Part(end_key, Span.from_proto(request.interval), arrival=arrival, training=training)
    if kind == "ranges":
        ranges = ranges_from_proto(request.ranges)
        view.snapshot.check_ranges(view.name, ranges)
        part = Part(end_key, ranges=ranges, arrival=arrival, training=training)
    return columns_by_time(view, part, columns) if by_time else columns_by_key(view, part, columns)


def _check_keys(view: View, keys: KeySet, purpose: Purpose.ValueType = Purpose.PURPOSE_UNSPECIFIED) -> None:
    if keys.ranges is not None:
        view.snapshot.check_ranges(view.name, keys.ranges)
    else:
        view.snapshot.check_keys(view.name, keys.to_array())
    if purpose == Purpose.TRAINING:
        view.refuse_test(keys)


class _Pace:
    """Says when it is time for another message of progress."""

    def __init__(self) -> None:
        self._last = 0.0

    def is_due(self) -> bool:
        if time.monotonic() - self._last < PROGRESS_SECONDS:
            return False
        self._last = time.monotonic()
        return True


def _verified(progress: VerifyProgress, told: int) -> storage_pb2.VerifyProgress:
    return storage_pb2.VerifyProgress(
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        files_done=progress.files_done,
        damaged=progress.damaged[told:],
    )


def _end_key(request: ReadColumnsRequest | storage_pb2.InspectSamplesRequest, view: View) -> int:
    end = view.snapshot.end_key
    return max(0, min(request.end_key, end)) if request.HasField("end_key") else end
