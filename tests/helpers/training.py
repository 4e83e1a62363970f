"""A trainer server on real storage, and training sets made by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import batch_of, encode_batch, slices
from modyn.core.catalog import Catalog
from modyn.core.digests import digest_bytes
from modyn.core.errors import NotAvailableError, NotFoundError
from modyn.core.jobs import JobLauncher
from modyn.core.keysets import KeyRange, ranges_to_proto
from modyn.core.peers import Addresses, Peers
from modyn.core.rpc import RpcServer, as_arrow_messages
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.proto.common_pb2 import ArrowMessage, CollectGarbageRequest, Garbage
from modyn.proto.selector_pb2 import (
    CreateTrainingSetRequest,
    DescribeTrainingSetRequest,
    FindTrainingSetsRequest,
    FoundTrainingSet,
    ReadTrainingSetRequest,
    TrainingSet,
)
from modyn.proto.selector_pb2_grpc import add_SelectorServicer_to_server
from modyn.proto.storage_pb2 import RegisterDatasetRequest
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainRequest, TrainResult
from modyn.selector.sample_columns import SampleColumnFiles, SampleColumnsRpcs
from modyn.storage.reader import append
from modyn.storage.service import StorageService
from modyn.trainer_server.service import TrainerService


class TrainingSets(SampleColumnsRpcs):
    """Serves training sets that were put into it, and sample columns as the selector does."""

    def __init__(self, state: StateDirectory) -> None:
        self.sample_columns = SampleColumnFiles(state.folder("sample_columns"))
        self._sets: dict[str, tuple[TrainingSet, npt.NDArray[np.int64], npt.NDArray[np.float32]]] = {}

    def put(self, dataset: str, keys: npt.ArrayLike, weights: npt.ArrayLike | None = None, content: str = "c") -> str:
        """Digest of a set of single keys."""
        key_array = np.asarray(keys, dtype=np.int64)
        weight_array = np.ones(len(key_array), np.float32) if weights is None else np.asarray(weights, np.float32)
        digest = digest_bytes(dataset.encode() + key_array.tobytes() + weight_array.tobytes() + content.encode())
        described = TrainingSet(
            digest=digest,
            dataset=dataset,
            num_samples=len(key_array),
            num_new=len(key_array),
            has_weights=weights is not None,
            content_digest=content,
        )
        self._sets[digest] = (described, key_array, weight_array)
        return digest

    def put_range(self, dataset: str, start: int, end: int) -> str:
        """Digest of a set that is one range of keys."""
        digest = self.put(dataset, np.arange(start, end), content="range")
        self._sets[digest][0].ranges.CopyFrom(ranges_to_proto([KeyRange(start, end)]))
        return digest

    def CreateTrainingSet(
        self, request_iterator: Iterator[CreateTrainingSetRequest], context: grpc.ServicerContext
    ) -> TrainingSet:
        raise NotAvailableError("training sets are put here by tests")

    def DescribeTrainingSet(self, request: DescribeTrainingSetRequest, context: grpc.ServicerContext) -> TrainingSet:
        if request.digest not in self._sets:
            raise NotFoundError(f"no training set {request.digest}")
        return self._sets[request.digest][0]

    def FindTrainingSets(
        self, request_iterator: Iterator[FindTrainingSetsRequest], context: grpc.ServicerContext
    ) -> Iterator[FoundTrainingSet]:
        raise NotAvailableError("training sets are found by the real selector")

    def CollectSelectionGarbage(
        self, request: CollectGarbageRequest, context: grpc.ServicerContext
    ) -> Iterator[Garbage]:
        raise NotAvailableError("training sets are collected by the real selector")

    def ReadTrainingSet(self, request: ReadTrainingSetRequest, context: grpc.ServicerContext) -> Iterator[ArrowMessage]:
        described, keys, weights = self._sets[request.digest]
        assert not described.HasField("ranges"), "ranges need no second call"
        parts = slices(len(keys), 1000)
        return as_arrow_messages(encode_batch(batch_of(key=keys[part], weight=weights[part])) for part in parts)


class TrainingServer:
    """Storage, training sets and a trainer server on one Unix socket."""

    def __init__(self, folder: Path, launcher: JobLauncher, *, allow_user_code: bool) -> None:
        self.state = StateDirectory(folder / "state").create()
        self.catalog = Catalog(self.state.default_catalog_url)
        self.peers = Peers(Addresses.all_at(f"unix:{folder / 'socket'}"))
        self.sets = TrainingSets(self.state)
        self._storage = StorageService(self.state, self.catalog)
        self.trainer = TrainerService(
            self.state, self.catalog, self.peers, launcher=launcher, allow_user_code=allow_user_code
        )
        self._server = RpcServer(
            self.peers.addresses.storage,
            [
                self._storage.add_to,
                self.trainer.add_to,
                lambda server: add_SelectorServicer_to_server(self.sets, server),
            ],
        )
        self._server.start()
        self._names = itertools.count()

    def close(self) -> None:
        self.peers.close()
        self._server.stop()
        self.trainer.close()
        self._storage.close()
        self.catalog.close()

    def dataset(self, labels: pa.Array | npt.ArrayLike, **payload: Any) -> str:
        """A new dataset with these labels and payload columns, keys 0 to n - 1."""
        name = f"data{next(self._names)}"
        self.peers.storage.RegisterDataset(RegisterDatasetRequest(name=name))
        self.append(name, labels, **payload)
        return name

    def append(self, dataset: str, labels: pa.Array | npt.ArrayLike, **payload: Any) -> None:
        """The samples of an empty dataset."""
        append(self.peers.storage, dataset, "all", [batch_of(label=labels, **payload)])

    def request(
        self,
        dataset: str,
        training_set: str,
        *,
        model: dict[str, Any],
        training: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        root: object = None,
        pipeline_id: str = "p",
        **fields: Any,
    ) -> TrainRequest:
        request = TrainRequest(
            pipeline_id=pipeline_id,
            dataset=dataset,
            training_set=training_set,
            training=to_value({"threads": 1, **(training or {})}),
            model=to_value(model),
            data=to_value({"dataset_id": dataset, **(data or {})}),
            **fields,
        )
        if root is not None:
            request.code.root = str(root)
        return request

    def events(self, request: TrainRequest) -> list[TrainEvent]:
        return list(self.peers.trainer_server.Train(request))

    def train(self, request: TrainRequest) -> TrainResult:
        """The result of a training that has to work."""
        return self.events(request)[-1].result
