"""The TrainerServer rpcs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from modyn.core.catalog import Catalog
from modyn.core.devices import Caller, Devices
from modyn.core.jobs import JobLauncher
from modyn.core.peers import Peers
from modyn.core.state import StateDirectory
from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage, ListReferencesRequest, Reference
from modyn.proto.trainer_server_pb2 import (
    CheckRequest,
    CheckResult,
    DescribeModelRequest,
    ExportedPiece,
    ExportModelRequest,
    FindTrainingsRequest,
    ListModelsRequest,
    ModelDescription,
    TrainedModel,
    TrainEvent,
    TrainRequest,
)
from modyn.proto.trainer_server_pb2_grpc import TrainerServerServicer, add_TrainerServerServicer_to_server
from modyn.trainer_server.descriptions import Models
from modyn.trainer_server.garbage import collect, references
from modyn.trainer_server.inputs import TrainingInputs
from modyn.trainer_server.lineage import Lineage
from modyn.trainer_server.side_jobs import SideJobs
from modyn.trainer_server.store import TrainingStore
from modyn.trainer_server.trainings import Trainings

PRELOAD = (
    "torch",
    "torch._dynamo",
    "grpc",
    "pyarrow",
    "modyn.models.preload",
    "modyn.trainer_server.job",
    "modyn.trainer_server.check",
    "modyn.trainer_server.export",
)
"""What a fork server imports so that training jobs start fast."""


class TrainerService(TrainerServerServicer):
    """Trains models in jobs.

    Args:
        state: job logs go to its ``jobs/`` folder.
        catalog: finished trainings are recorded here.
        peers: where the selector and storage are.
        launcher: starts jobs; closed by whoever made it.
        allow_user_code: run inline Python and import from clients' folders.
        devices: whose slots jobs take, where other services' jobs take them too; by default only these do.
    """

    def __init__(
        self,
        state: StateDirectory,
        catalog: Catalog,
        peers: Peers,
        *,
        launcher: JobLauncher,
        allow_user_code: bool,
        devices: Devices | None = None,
    ) -> None:
        devices = devices or Devices()
        store = TrainingStore(catalog)
        self._state = state
        self._store = store
        self._trainings = Trainings(state, store, peers, launcher, devices)
        self._side_jobs = SideJobs(state, peers, launcher, devices, allow_user_code=allow_user_code)
        self._lineage = Lineage(store, peers)
        self._models = Models(store)
        self._allow_user_code = allow_user_code

    def add_to(self, server: grpc.Server) -> None:
        add_TrainerServerServicer_to_server(self, server)

    def close(self) -> None:
        """Nothing to release: jobs end with their calls and with the launcher."""

    def Train(self, request: TrainRequest, context: grpc.ServicerContext) -> Iterator[TrainEvent]:
        inputs = TrainingInputs.of(request, self._allow_user_code)
        yield from self._trainings.run(inputs, Caller(context.is_active, context.add_callback))

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResult:
        return self._side_jobs.check(request, Caller(context.is_active, context.add_callback))

    def ExportModel(self, request: ExportModelRequest, context: grpc.ServicerContext) -> Iterator[ExportedPiece]:
        yield from self._side_jobs.export(request, Caller(context.is_active, context.add_callback))

    def FindTrainings(
        self, request_iterator: Iterator[FindTrainingsRequest], context: grpc.ServicerContext
    ) -> Iterator[TrainedModel]:
        yield from self._lineage.find(request_iterator)

    def DescribeModel(self, request: DescribeModelRequest, context: grpc.ServicerContext) -> ModelDescription:
        return self._models.describe(request)

    def ListModels(self, request: ListModelsRequest, context: grpc.ServicerContext) -> Iterator[ModelDescription]:
        yield from self._models.all(request)

    def ListReferences(self, request: ListReferencesRequest, context: grpc.ServicerContext) -> Iterator[Reference]:
        return references(self._store)

    def CollectTrainerGarbage(self, request: CollectGarbageRequest, context: grpc.ServicerContext) -> Iterator[Garbage]:
        return collect(self._state, request)
