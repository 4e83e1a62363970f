"""Running one prediction job: waiting for a slot, passing on its progress, killing it when the caller is gone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array, batch_of, encode_batch
from modyn.core.devices import Caller, Devices
from modyn.core.errors import JobFailedError
from modyn.core.jobs import JobDescription, JobLauncher
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.request import Evaluation
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.evaluator_pb2 import EvaluateEvent, EvaluateQueued, PredictEvent, PredictJob, PredictResult

ENTRY = "modyn.evaluator.job:run"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a job is to do.

    Attributes:
        keys: samples to read, int64 [n].
        tasks: which model needs which of them.
        labels: what to send through the label transformer, or None.
        output: where the job writes its outcome file.
    """

    evaluation: Evaluation
    keys: Int64Array
    tasks: Sequence[ModelTask]
    labels: pa.Array | None
    output: Path


@dataclass
class Predicted:
    """What came out of a job; filled in while its events are read.

    Attributes:
        labels: transformed labels, int64 [n], if that was asked for.
        failures: model -> what went wrong.
    """

    result: PredictResult | None = None
    labels: Int64Array | None = None
    failures: dict[str, str] = field(default_factory=dict)


class Predictor:
    """Starts prediction jobs when a device has a slot for them."""

    def __init__(self, state: StateDirectory, launcher: JobLauncher, peers: Peers, devices: Devices) -> None:
        self._state = state
        self._launcher = launcher
        self._peers = peers
        self._devices = devices
        self._counter = itertools.count()

    def run(self, prediction: Prediction, caller: Caller, predicted: Predicted) -> Iterator[EvaluateEvent]:
        """Runs a job and yields events for the caller.

        Args:
            predicted: takes the results.

        Raises:
            ModynError: the job failed as a whole.
            CancelledError: the caller went away.
        """
        evaluation = prediction.evaluation
        log = self._log_path(evaluation.pipeline_id)
        payload = self._message(prediction).SerializeToString()
        description = JobDescription(ENTRY, payload, log, f"evaluation on {evaluation.dataset!r}")
        with self._devices.ticket(evaluation.device, evaluation.threads) as ticket:
            for waiting in ticket.queue(caller, "evaluation"):
                yield EvaluateEvent(queued=EvaluateQueued(waiting=waiting))
            job = self._launcher.launch(description)
            caller.kill_when_gone(job)
            try:
                for event in job.events():
                    yield from _received(PredictEvent.FromString(event), predicted)
            finally:
                job.cancel()  # nothing to kill unless we are here because of an error or a closed stream
        if predicted.result is None:
            raise JobFailedError(f"{description.what} ended without a result; see {log}")
        if not log.stat().st_size:
            log.unlink()

    def _message(self, prediction: Prediction) -> PredictJob:
        evaluation, labels = prediction.evaluation, prediction.labels
        return PredictJob(
            storage_address=self._peers.addresses.storage,
            dataset=evaluation.dataset,
            data=to_value(evaluation.data.model_dump(mode="json")),
            model=to_value(evaluation.model.model_dump(mode="json")),
            code=CodeOrigin(root=evaluation.root),
            batch_size=evaluation.batch_size,
            device=evaluation.device,
            threads=evaluation.threads,
            seed=evaluation.seed,
            keep_scores=evaluation.needs_scores,
            output=str(prediction.output),
            keys=KeySet.from_array(prediction.keys).to_proto(),
            tasks=[task.to_proto() for task in prediction.tasks],
            labels=None if labels is None else encode_batch(batch_of(label=labels)),
        )

    def _log_path(self, pipeline_id: str) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return self._state.folder("jobs") / pipeline_id / f"evaluate-{stamp}-{next(self._counter)}.log"


def _received(event: PredictEvent, predicted: Predicted) -> Iterator[EvaluateEvent]:
    match event.WhichOneof("kind"):
        case "progress":
            yield EvaluateEvent(progress=event.progress)
        case "failure":
            predicted.failures[event.failure.model] = event.failure.message
            yield EvaluateEvent(failure=event.failure)
        case "labels":
            predicted.labels = np.frombuffer(event.labels.classes, dtype="<i8").astype(np.int64, copy=False)
        case "result":
            predicted.result = event.result
