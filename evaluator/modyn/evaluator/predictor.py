"""Running one prediction job: waiting for a slot, passing on its events, killing it when the caller is gone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from modyn.proto.evaluator_pb2 import EvaluateQueued, PredictEvent, PredictJob

ENTRY = "modyn.evaluator.job:run"

PART_SECONDS = 15.0
"""What a job that is killed may lose, but for the batches it is at."""


class JobKilledError(Exception):
    """A job was killed or vanished. It did not fail by itself, so another one may do better.

    Attributes:
        how: it ended.
        error: what to raise if nothing is to be done about it.
    """

    def __init__(self, how: str, error: JobFailedError) -> None:
        super().__init__(how)
        self.how = how
        self.error = error


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a job is to do.

    Attributes:
        keys: samples to read, int64 [n].
        tasks: which model needs which of them.
        labels: what to send through the label transformer, or None.
        output: beginning of the paths of the files that the job writes.
    """

    evaluation: Evaluation
    keys: Int64Array
    tasks: Sequence[ModelTask]
    labels: pa.Array | None
    output: str


class Predictor:
    """Starts prediction jobs when a device has a slot for them."""

    def __init__(self, state: StateDirectory, launcher: JobLauncher, peers: Peers, devices: Devices) -> None:
        self._state = state
        self._launcher = launcher
        self._peers = peers
        self._devices = devices
        self._counter = itertools.count()

    def run(self, prediction: Prediction, caller: Caller) -> Iterator[EvaluateQueued | PredictEvent]:
        """Runs a job; yields what it waits for, then its events. The last one has the result.

        Raises:
            ModynError: the job failed as a whole.
            JobKilledError: it was killed.
            CancelledError: the caller went away.
        """
        evaluation = prediction.evaluation
        log = self._log_path(evaluation.pipeline_id)
        payload = self._message(prediction).SerializeToString()
        description = JobDescription(ENTRY, payload, log, f"evaluation on {evaluation.dataset!r}")
        finished = False
        with self._devices.ticket(evaluation.device, evaluation.threads) as ticket:
            for waiting in ticket.queue(caller, "evaluation"):
                yield EvaluateQueued(waiting=waiting)
            job = self._launcher.launch(description)
            caller.kill_when_gone(job)
            try:
                # The memory of a GPU is scarce: the next job needs what this one leaves.
                for message in job.events(until_gone=evaluation.device != "cpu"):
                    event = PredictEvent.FromString(message)
                    finished = event.HasField("result")
                    yield event
            except JobFailedError as error:
                if job.killed is None:
                    raise
                raise JobKilledError(job.killed, error) from error
            finally:
                job.cancel()  # nothing to kill, or nothing left to do, unless of an error or a closed stream
        if not finished:
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
            output=prediction.output,
            keys=KeySet.from_array(prediction.keys).to_proto(),
            tasks=[task.to_proto() for task in prediction.tasks],
            labels=None if labels is None else encode_batch(batch_of(label=labels)),
            label_classes=evaluation.needs_classes,
            label_numbers=evaluation.needs_numbers,
            part_seconds=PART_SECONDS,
        )

    def _log_path(self, pipeline_id: str) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return self._state.folder("jobs") / pipeline_id / f"evaluate-{stamp}-{next(self._counter)}.log"
