"""Checks: one batch through all of an evaluation, in a job of its own, before anything is trained."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from modyn.core.devices import Caller, Devices
from modyn.core.errors import JobFailedError
from modyn.core.jobs import JobDescription, JobLauncher
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.core.plugins.evaluation import Metric
from modyn.core.state import StateDirectory
from modyn.evaluator.metric_checks import made_up, stored_labels, try_metrics
from modyn.evaluator.request import check_common, default_threads, parse_data, parse_metrics
from modyn.evaluator.user_scoring import check_metrics_allowed
from modyn.models.usercode import check_allowed
from modyn.proto.evaluator_pb2 import CheckEvaluationJob, CheckEvaluationRequest, CheckEvaluationResult
from modyn.storage.reader import Column, Order, read_columns

ENTRY = "modyn.evaluator.check_job:run"


class EvaluationChecks:
    """Starts the jobs of checks when a device has a slot for them."""

    def __init__(
        self, state: StateDirectory, launcher: JobLauncher, peers: Peers, devices: Devices, *, allow_user_code: bool
    ) -> None:
        self._state = state
        self._launcher = launcher
        self._peers = peers
        self._devices = devices
        self._allow_user_code = allow_user_code
        self._counter = itertools.count()

    def check(self, request: CheckEvaluationRequest, caller: Caller) -> CheckEvaluationResult:
        """What came of one batch.

        Raises:
            InvalidInputError: what an evaluation would fail with; the message names the layer or the metric.
            NotAllowedError: it has code that this server does not run.
            ModynError: the job failed.
        """
        check_common(request)
        metrics = parse_metrics(request)
        check_metrics_allowed(metrics, allow_user_code=self._allow_user_code)
        if request.HasField("num_outputs") and all(metric.user_code is None for metric in metrics):
            return self._check_metrics(request, metrics)
        root = request.code.root if request.code.HasField("root") else None
        check_allowed(parse_data(request), root, allow_user_code=self._allow_user_code)
        asked = CheckEvaluationRequest()
        asked.CopyFrom(request)
        asked.device = request.device or "cpu"
        asked.threads = default_threads(request)
        job_message = CheckEvaluationJob(storage_address=self._peers.addresses.storage, request=asked)
        log = self._state.folder("jobs") / request.pipeline_id / f"check-evaluation-{next(self._counter)}.log"
        what = f"check of the evaluation on {request.dataset!r}"
        result: CheckEvaluationResult | None = None
        with self._devices.ticket(asked.device, asked.threads) as ticket:
            for _ in ticket.queue(caller, "check"):
                pass
            job = self._launcher.launch(JobDescription(ENTRY, job_message.SerializeToString(), log, what))
            caller.kill_when_gone(job)
            try:
                for event in job.events():
                    result = CheckEvaluationResult.FromString(event)
            finally:
                job.cancel()  # it has ended unless we are here because of an error
        if result is None:
            raise JobFailedError(f"{what} ended without a result; see {log}")
        log.unlink(missing_ok=True)
        return result

    def _check_metrics(self, request: CheckEvaluationRequest, metrics: Sequence[Metric]) -> CheckEvaluationResult:
        """The metrics alone, on made-up outputs; takes no job."""
        begin = time.perf_counter()
        keys = KeySet.from_proto(request.keys)
        table = read_columns(self._peers.storage, request.dataset, keys, columns=[Column.LABEL], order=Order.REQUEST)
        labels = table["label"].combine_chunks().drop_null()
        classes, targets = stored_labels(labels, metrics, request.dataset)
        values = try_metrics(metrics, made_up(classes, request.num_outputs, targets)) if len(labels) else []
        return CheckEvaluationResult(metrics=values, num_samples=len(labels), seconds=time.perf_counter() - begin)
