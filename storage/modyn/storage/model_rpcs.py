"""The rpcs about stored models."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import grpc

from modyn.core.errors import InvalidInputError
from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage
from modyn.proto.storage_pb2 import (
    DeleteModelRequest,
    DeleteModelResponse,
    FetchModelRequest,
    ListStoredModelsRequest,
    ModelChunk,
    StoredModel,
)
from modyn.proto.storage_pb2_grpc import StorageServicer
from modyn.storage.model_store import ModelFile, ModelStore


class ModelRpcs(StorageServicer):
    """The part of a storage service that is about models."""

    models: ModelStore

    def StoreModel(self, request_iterator: Iterator[ModelChunk], context: grpc.ServicerContext) -> StoredModel:
        first = next(request_iterator, ModelChunk())
        interval = first.full_model_interval if first.HasField("full_model_interval") else None
        if interval is not None and interval < 1:
            raise InvalidInputError(f"full_model_interval {interval}: expected 1 or more")
        stored = self.models.store(
            (chunk.data for chunk in itertools.chain([first], request_iterator)),
            parent=first.parent if first.HasField("parent") else None,
            full_model_interval=interval,
        )
        return _message(stored)

    def FetchModel(self, request: FetchModelRequest, context: grpc.ServicerContext) -> Iterator[ModelChunk]:
        return (ModelChunk(data=data) for data in self.models.fetch(request.digest))

    def DescribeModel(self, request: FetchModelRequest, context: grpc.ServicerContext) -> StoredModel:
        return _message(self.models.use(request.digest) if request.used else self.models.describe(request.digest))

    def DeleteModel(self, request: DeleteModelRequest, context: grpc.ServicerContext) -> DeleteModelResponse:
        freed, rewritten = self.models.delete(request.digest, rewrite_dependents=request.rewrite_dependents)
        return DeleteModelResponse(freed_bytes=freed, rewritten=rewritten)

    def ListStoredModels(
        self, request: ListStoredModelsRequest, context: grpc.ServicerContext
    ) -> Iterator[StoredModel]:
        return map(_message, self.models.all())

    def CollectModelGarbage(self, request: CollectGarbageRequest, context: grpc.ServicerContext) -> Iterator[Garbage]:
        collected = self.models.collect(
            set(request.keep), older_than_seconds=request.older_than_seconds, dry_run=request.dry_run
        )
        for model in collected:
            yield Garbage(
                kind="model",
                name=model.digest,
                num_bytes=model.stored_bytes,
                age_seconds=max(0.0, time.time() - model.stored_at),
                reason="no pipeline keeps it",
            )


def _message(model: ModelFile) -> StoredModel:
    return StoredModel(
        digest=model.digest,
        num_bytes=model.num_bytes,
        stored_bytes=model.stored_bytes,
        delta_of=model.base,
        chain_position=model.chain_position,
        stored_at=model.stored_at,
    )
