"""The Evaluator service."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from modyn.core.catalog import Catalog
from modyn.core.devices import Caller, Devices
from modyn.core.jobs import JobLauncher
from modyn.core.peers import Peers
from modyn.core.state import StateDirectory
from modyn.evaluator.checking import EvaluationChecks
from modyn.evaluator.garbage import collect
from modyn.evaluator.observing import Observations
from modyn.evaluator.predictor import Predictor
from modyn.evaluator.recent import RecentColumns
from modyn.evaluator.request import parse_request
from modyn.evaluator.run import EvaluationRun
from modyn.evaluator.store import OutcomeStore
from modyn.evaluator.user_scoring import UserScoring, check_metrics_allowed
from modyn.models.usercode import check_allowed
from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage
from modyn.proto.evaluator_pb2 import (
    CheckEvaluationRequest,
    CheckEvaluationResult,
    EvaluateEvent,
    EvaluateRequest,
    ObserveAnswer,
    ObserveRequest,
)
from modyn.proto.evaluator_pb2_grpc import EvaluatorServicer, add_EvaluatorServicer_to_server

PRELOAD = (
    "modyn.models.preload",
    "modyn.evaluator.job",
    "modyn.evaluator.session_job",
    "modyn.evaluator.check_job",
    "modyn.evaluator.scoring_job",
)
"""Modules that the fork server of evaluation jobs imports."""


class EvaluatorService(EvaluatorServicer):
    """Scores models on windows; see ``README.md`` beside this package.

    Args:
        state: outcome files and job logs live here.
        catalog: holds what the outcome files are.
        peers: storage is asked for samples, labels and models.
        launcher: starts prediction jobs.
        allow_user_code: accept inline Python and code folders.
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
        self._peers = peers
        self._allow_user_code = allow_user_code
        self._store = OutcomeStore(state, catalog)
        self._recent = RecentColumns()
        devices = devices or Devices()
        self._predictor = Predictor(state, launcher, peers, devices)
        self._user_scoring = UserScoring(state, launcher, devices, self._store)
        self._checks = EvaluationChecks(state, launcher, peers, devices, allow_user_code=allow_user_code)
        self._observations = Observations(state, launcher, peers, devices, allow_user_code=allow_user_code)

    def add_to(self, server: grpc.Server) -> None:
        add_EvaluatorServicer_to_server(self, server)

    def close(self) -> None:
        """Nothing to release: jobs belong to the launcher, files are closed when their readers are."""

    def Evaluate(self, request: EvaluateRequest, context: grpc.ServicerContext) -> Iterator[EvaluateEvent]:
        evaluation = parse_request(request)
        check_allowed(evaluation.data, evaluation.root, allow_user_code=self._allow_user_code)
        check_metrics_allowed(evaluation.metrics, allow_user_code=self._allow_user_code)
        caller = Caller(context.is_active, context.add_callback)
        run = EvaluationRun(
            evaluation,
            self._peers.storage,
            self._store,
            self._predictor,
            user_scoring=self._user_scoring,
            recent=self._recent,
            caller=caller,
        )
        yield from run.events()

    def CheckEvaluation(self, request: CheckEvaluationRequest, context: grpc.ServicerContext) -> CheckEvaluationResult:
        return self._checks.check(request, Caller(context.is_active, context.add_callback))

    def Observe(self, requests: Iterator[ObserveRequest], context: grpc.ServicerContext) -> Iterator[ObserveAnswer]:
        yield from self._observations.answers(requests, Caller(context.is_active, context.add_callback))

    def CollectOutcomeGarbage(self, request: CollectGarbageRequest, context: grpc.ServicerContext) -> Iterator[Garbage]:
        return collect(self._store, request)
