"""The supervisor's rpcs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial

import grpc

from modyn.core.arrow import MESSAGE_BYTES, slices
from modyn.core.catalog import Catalog
from modyn.core.config.reader import load_pipeline_text, resolved_yaml
from modyn.core.errors import CancelledError, ConflictError, InvalidInputError, UnavailableError
from modyn.core.peers import Peers
from modyn.core.values import to_value
from modyn.core.versions import PROTOCOL_VERSION, package_version
from modyn.models.usercode import check_allowed
from modyn.proto import supervisor_pb2 as pb
from modyn.proto.common_pb2 import CodeOrigin, ListReferencesRequest, Reference, ServerInfo, ServerInfoRequest
from modyn.proto.supervisor_pb2_grpc import SupervisorServicer, add_SupervisorServicer_to_server
from modyn.supervisor import journal as status_of
from modyn.supervisor.checking import check_steps
from modyn.supervisor.context import RunContext
from modyn.supervisor.journal import Journal, PipelineRow
from modyn.supervisor.later import END_SECONDS, LaterEvaluation
from modyn.supervisor.options import RunOptions, parse_id
from modyn.supervisor.report import build_report
from modyn.supervisor.retention import references
from modyn.supervisor.run import PipelineRun
from modyn.supervisor.trainer_servers import TrainerServers

_STATUS = {
    status_of.STARTING: pb.Pipeline.STARTING,
    status_of.RUNNING: pb.Pipeline.RUNNING,
    status_of.STOPPING: pb.Pipeline.STOPPING,
    status_of.COMPLETED: pb.Pipeline.COMPLETED,
    status_of.STOPPED: pb.Pipeline.STOPPED,
    status_of.FAILED: pb.Pipeline.FAILED,
    status_of.INTERRUPTED: pb.Pipeline.INTERRUPTED,
}

MAX_FINISHED_RUNS = 32
"""Finished pipelines whose events can still be watched."""

CLOSE_TIMEOUT_SECONDS = 10.0
"""How long a closing server waits for its pipelines to notice."""


class SupervisorService(SupervisorServicer):
    """Runs pipelines, each on a thread of its own, and answers what became of them.

    Args:
        catalog: holds the journal.
        peers: the services that do the work.
        allow_user_code: accept inline Python and code folders.
        services: what is served at the same address, for those who ask.
    """

    def __init__(
        self,
        catalog: Catalog,
        peers: Peers,
        *,
        allow_user_code: bool,
        services: Sequence[str] = ("supervisor",),
    ) -> None:
        self._services = services
        self._peers = peers
        self._trainers = TrainerServers(peers)
        self._allow_user_code = allow_user_code
        self._journal = Journal(catalog)
        self._journal.interrupt_unfinished()
        self._runs: dict[int, PipelineRun] = {}
        self._evaluating: dict[int, LaterEvaluation] = {}
        """Of pipelines that have ended."""
        self._lock = threading.Lock()
        self._closed = False

    def add_to(self, server: grpc.Server) -> None:
        add_SupervisorServicer_to_server(self, server)

    def close(self) -> None:
        """Ends running pipelines; they count as interrupted."""
        with self._lock:
            self._closed = True
            runs: list[PipelineRun | LaterEvaluation] = [*self._runs.values(), *self._evaluating.values()]
        for run in runs:
            run.kill()
        for run in runs:
            run.wait(CLOSE_TIMEOUT_SECONDS)

    # -------------------------------------------------------------------------------------------------- rpcs

    def SubmitPipeline(self, request: pb.SubmitPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        loaded = load_pipeline_text(request.pipeline_yaml, request.yaml_name or "pipeline")
        config = loaded.require_runnable()
        options = RunOptions.from_request(request, allow_user_code=self._allow_user_code)
        check_allowed(config.data, options.code_root, allow_user_code=self._allow_user_code)
        options.check_paths(config)
        options.check_trigger(config.trigger)
        if options.baseline_of is not None:
            self._check_compared(self._journal.pipeline(options.baseline_of))
        row = self._journal.create_pipeline(
            PipelineRow(
                id=0,
                name=config.pipeline.name,
                dataset=config.data.dataset_id,
                status=status_of.STARTING,
                live=options.live,
                simulated=options.simulate,
                resolved_yaml=resolved_yaml(config),
                replay_order=options.order,
                created_at=time.time(),
                notices=list(loaded.notices),
                start_time=options.start,
                stop_time=options.stop,
                start_key=options.start_key,
                end_key=options.end_key,
                maximum_triggers=options.maximum_triggers,
                baseline_of=options.baseline_of,
                baseline=options.baseline,
                code_root=options.code_root,
            )
        )
        run = PipelineRun(
            row, RunContext(row.id, config, options, self._peers, self._journal, self._trainers), _describe
        )
        with self._lock:
            if self._closed:
                raise UnavailableError("the server is stopping; submit the pipeline again when it is back")
            self._forget_old_runs()
            self._runs[row.id] = run
            run.start()
        return _describe(row, 0)

    def CheckPipeline(
        self, request: pb.SubmitPipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.CheckedStep]:
        loaded = load_pipeline_text(request.pipeline_yaml, request.yaml_name or "pipeline")
        config = loaded.require_runnable()
        options = RunOptions.from_request(request, allow_user_code=self._allow_user_code)
        check_allowed(config.data, options.code_root, allow_user_code=self._allow_user_code)
        options.check_paths(config)
        run = RunContext(0, config, options, self._peers, self._journal, self._trainers)
        context.add_callback(run.stop.kill)  # nobody wants to know any more
        yield from check_steps(run)

    def WatchPipeline(
        self, request: pb.WatchPipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PipelineEvent]:
        pipeline_id = parse_id(request.id)
        run = self._runs.get(pipeline_id)
        if run is None:  # ended before this server started: its last status is all there is to say
            row = self._journal.pipeline(pipeline_id)
            yield pb.PipelineEvent(
                seq=request.from_seq, unix_time=time.time(), pipeline=_describe(row, self._count_triggers(row.id))
            )
            return
        context.add_callback(run.events.wake)
        yield from run.events.follow(request.from_seq, context.is_active)

    def GetPipeline(self, request: pb.PipelineRef, context: grpc.ServicerContext) -> pb.Pipeline:
        return self._pipeline(parse_id(request.id))

    def ListPipelines(
        self, request: pb.ListPipelinesRequest, context: grpc.ServicerContext
    ) -> pb.ListPipelinesResponse:
        counts = self._journal.trigger_counts()
        return pb.ListPipelinesResponse(
            pipelines=[
                _describe(row, counts.get(row.id, 0)) if run is None or run.finished else _describe(*run.current())
                for row in self._journal.pipelines()
                for run in (self._runs.get(row.id),)  # looked up once: a finished one may be forgotten at any time
            ]
        )

    def StopPipeline(self, request: pb.StopPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        pipeline_id = parse_id(request.id)
        run = self._runs.get(pipeline_id)
        if run is not None and not run.finished:
            run.stop()
            while request.wait and not run.finished and context.is_active():
                run.wait(1.0)
        return self._pipeline(pipeline_id)

    def EvaluatePipeline(
        self, request: pb.EvaluatePipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PipelineEvent]:
        row = self._journal.pipeline(parse_id(request.id))
        evaluation = LaterEvaluation(
            request, row, self._journal, self._peers, self._trainers, allow_user_code=self._allow_user_code
        )
        self._claim(row.id, evaluation)
        try:
            evaluation.prepare()
        except BaseException:
            self._release(row.id, evaluation)
            raise
        evaluation.start(partial(self._pipeline, row.id), partial(self._release, row.id, evaluation))
        if not context.add_callback(evaluation.kill):  # nobody wants to know any more; what was scored stays
            evaluation.kill()
        yield from evaluation.follow(context.is_active)

    def FirePipeline(self, request: pb.FirePipelineRequest, context: grpc.ServicerContext) -> pb.FirePipelineResponse:
        pipeline_id = parse_id(request.id)
        run = self._runs.get(pipeline_id)
        if run is None or run.finished:
            status = pb.Pipeline.Status.Name(self._pipeline(pipeline_id).status).lower()
            raise ConflictError(f"pipeline {pipeline_id} is {status}; only a running one can be triggered")
        fired = run.fire()
        while context.is_active():
            try:
                return pb.FirePipelineResponse(trigger_index=fired.result(timeout=1.0))
            except FutureTimeoutError:
                self._check_running(run)
        fired.cancel()
        raise CancelledError("the caller went away")

    def GetReport(self, request: pb.PipelineRef, context: grpc.ServicerContext) -> Iterator[pb.ReportChunk]:
        row = self._journal.pipeline(parse_id(request.id))
        document = to_value(build_report(self._journal, row).model_dump(mode="json"))
        code = CodeOrigin(root=row.code_root)
        data = pb.Report(document=document, resolved_yaml=row.resolved_yaml, code=code).SerializeToString()
        for part in slices(len(data), MESSAGE_BYTES):
            yield pb.ReportChunk(data=data[part])

    def GetServerInfo(self, request: ServerInfoRequest, context: grpc.ServicerContext) -> ServerInfo:
        return ServerInfo(
            version=package_version(),
            protocol_version=PROTOCOL_VERSION,
            services=self._services,
            allows_user_code=self._allow_user_code,
        )

    def ListReferences(self, request: ListReferencesRequest, context: grpc.ServicerContext) -> Iterator[Reference]:
        return references(self._journal)

    # ------------------------------------------------------------------------------------------------- helpers

    def _claim(self, pipeline_id: int, evaluation: LaterEvaluation) -> None:
        """Makes it the only evaluation of a pipeline that has ended."""
        with self._lock:
            other = self._evaluating.get(pipeline_id)
        if other is not None and other.killed:
            other.wait(END_SECONDS)
        with self._lock:
            if self._closed:
                raise UnavailableError("the server is stopping; evaluate the pipeline again when it is back")
            if pipeline_id in self._evaluating:
                raise ConflictError(f"pipeline {pipeline_id} is being evaluated already; wait for the end of that")
            self._evaluating[pipeline_id] = evaluation

    def _release(self, pipeline_id: int, evaluation: LaterEvaluation) -> None:
        with self._lock:
            if self._evaluating.get(pipeline_id) is evaluation:
                del self._evaluating[pipeline_id]

    @staticmethod
    def _check_compared(row: PipelineRow) -> None:
        if row.baseline_of is not None:
            raise InvalidInputError(
                f"pipeline {row.id} is a baseline itself, of pipeline {row.baseline_of}; name that one"
            )

    @staticmethod
    def _check_running(run: PipelineRun) -> None:
        if run.finished:
            raise ConflictError("the pipeline ended before its trigger could fire")

    def _forget_old_runs(self) -> None:
        """Finished runs stay for late watchers, but not without bound; the journal has all of them."""
        finished = [pipeline_id for pipeline_id, run in self._runs.items() if run.finished]
        for pipeline_id in finished[: max(0, len(finished) - MAX_FINISHED_RUNS)]:
            del self._runs[pipeline_id]

    def _pipeline(self, pipeline_id: int) -> pb.Pipeline:
        run = self._runs.get(pipeline_id)
        if run is not None:
            return _describe(*run.current())
        row = self._journal.pipeline(pipeline_id)
        return _describe(row, self._count_triggers(pipeline_id))

    def _count_triggers(self, pipeline_id: int) -> int:
        return self._journal.trigger_counts().get(pipeline_id, 0)


def _describe(row: PipelineRow, num_triggers: int) -> pb.Pipeline:
    message = pb.Pipeline(
        id=str(row.id),
        name=row.name,
        status=_STATUS[row.status],
        live=row.live,
        created_at=row.created_at,
        ended_at=row.ended_at,
        num_triggers=num_triggers,
        samples_seen=row.samples_seen,
        notices=row.notices,
        dataset=row.dataset,
        simulated=row.simulated,
        baseline_of=None if row.baseline_of is None else str(row.baseline_of),
        baseline=row.baseline or "",
    )
    if row.error is not None:
        message.error.CopyFrom(pb.PipelineError(message=row.error, input_error=bool(row.input_error)))
    return message
