"""A training from request to result: looked up, queued, run in a job, recorded."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from modyn.core.devices import Caller, Devices, Slots, Ticket
from modyn.core.errors import InternalError, InvalidInputError, NotFoundError
from modyn.core.jobs import Job, JobDescription, JobLauncher
from modyn.core.peers import Peers
from modyn.core.state import StateDirectory
from modyn.proto.selector_pb2 import DescribeTrainingSetRequest, TrainingSet
from modyn.proto.storage_pb2 import FetchModelRequest
from modyn.proto.trainer_server_pb2 import DownsamplingResult, TrainEvent, TrainJob, TrainQueued, TrainResult
from modyn.selector.reader import describe_sample_columns
from modyn.trainer_server.attempts import Attempts
from modyn.trainer_server.checkpoint_folders import CheckpointFolders, is_for_one_call
from modyn.trainer_server.inputs import TrainingInputs
from modyn.trainer_server.plain import plain
from modyn.trainer_server.store import FinishedTraining, LineageRow, TrainingStore

NOT_NUMBERS = ("model", "input_digest", "reused")
"""What a result says besides the numbers of its training."""


class EqualTrainings:
    """One slot for all trainings of the same inputs."""

    def __init__(self) -> None:
        self._slots: weakref.WeakValueDictionary[str, Slots] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def slots(self, digest: str | None) -> Slots:
        """The slot of an input digest; one of its own for a training that nothing can be equal to.

        It is the same one for as long as anybody holds it.
        """
        if digest is None:
            return Slots(1)
        with self._lock:
            return self._slots.setdefault(digest, Slots(1))


class Trainings:
    """Runs trainings and remembers their results by the digest of their inputs."""

    def __init__(
        self, state: StateDirectory, store: TrainingStore, peers: Peers, launcher: JobLauncher, devices: Devices
    ) -> None:
        self._state = state
        self._store = store
        self._peers = peers
        self._launcher = launcher
        self._devices = devices
        self._equals = EqualTrainings()
        self._folders = CheckpointFolders(state)

    def run(self, inputs: TrainingInputs, caller: Caller) -> Iterator[TrainEvent]:
        """Events of one training, the result last.

        Raises:
            InvalidInputError: an input is wrong.
            JobFailedError: the job failed or was killed.
            CancelledError: the caller went away.
        """
        began = time.monotonic()
        training_set = self._training_set(inputs)
        code = inputs.code()
        if code.notice is not None:
            yield TrainEvent(notice=code.notice)
        digest = inputs.digest(training_set, code.digest) if code.digest is not None else None
        if (reused := self._reusable(inputs, digest)) is not None:
            yield reused
            return
        # Of several equal trainings asked for at once one runs; the others wait for its result.
        slots = self._equals.slots(digest if inputs.request.reuse else None)
        with slots.ticket() as turn:
            waited = yield from _queue(turn, caller)
            with self._devices.ticket(inputs.device, inputs.threads, inputs.training.world_size) as ticket:
                waited = (yield from _queue(ticket, caller)) or waited
                if (reused := self._reusable(inputs, digest)) is not None:  # the same was trained meanwhile
                    yield reused
                    return
                if waited and not _is_unchanged(inputs, training_set, digest):
                    digest = None
                    yield TrainEvent(notice=f"{inputs.what}: its code changed meanwhile; its result is not reused")
                yield from self._run_job(inputs, training_set, digest, caller, began)

    def _training_set(self, inputs: TrainingInputs) -> TrainingSet:
        request = DescribeTrainingSetRequest(digest=inputs.request.training_set)
        training_set = self._peers.selector.DescribeTrainingSet(request)
        if not training_set.num_samples:
            raise InvalidInputError(
                f"{inputs.what}: its training set is empty ({training_set.num_new} new samples, "
                f"{training_set.num_unlabelled} without a label); select or label more samples"
            )
        return training_set

    def _reusable(self, inputs: TrainingInputs, digest: str | None) -> TrainEvent | None:
        if digest is None or not inputs.request.reuse:
            return None
        found = self._store.find(digest)
        if found is None:
            return None
        result = _result_of(found)
        if not self._is_there(result):
            return None  # something of it was deleted: train it again
        self._store.add_lineage(_lineage(inputs, result))
        return TrainEvent(result=result)

    def _is_there(self, result: TrainResult) -> bool:
        """Whether everything that a training left behind still exists; if so, no garbage collection removes it now."""
        left = result.downsampling
        try:
            state = [result.optimizer_state] if result.HasField("optimizer_state") else []
            for model in (result.model, *left.auxiliary_models, *state):
                self._peers.storage.DescribeModel(FetchModelRequest(digest=model, used=True))
            for columns in filter(None, (left.trained, left.scores)):
                describe_sample_columns(self._peers.selector, columns)
        except NotFoundError:
            return False
        return True

    def _run_job(
        self, inputs: TrainingInputs, training_set: TrainingSet, digest: str | None, caller: Caller, began: float
    ) -> Iterator[TrainEvent]:
        """
        Args:
            digest: of the inputs, under which the result is kept; None: it is not.
        """
        request = inputs.request
        log = self._state.folder("jobs") / request.pipeline_id / f"train-{request.trigger_index}.log"
        log.unlink(missing_ok=True)  # of an earlier call
        job = TrainJob(
            request=request,
            training_set=training_set,
            storage_address=self._peers.addresses.storage,
            selector_address=self._peers.addresses.selector,
            threads=inputs.threads,
        )
        checkpoints = self._checkpoints(inputs, digest)
        if inputs.training.checkpointing.activated:
            job.checkpoints = str(checkpoints)

        def launch(description: JobDescription) -> Job:
            process = self._launcher.launch(description)
            caller.kill_when_gone(process)
            return process

        def may_go_on() -> bool:
            return _is_unchanged(inputs, training_set, digest)

        shared = inputs.training.world_size > 1
        forks = inputs.data.per_sample and inputs.training.dataloader_workers > 0
        attempts = Attempts(launch, job, log, inputs.what, may_go_on, shared=shared, fresh=forks)
        result: TrainResult | None = None
        try:
            for event in attempts.events():
                if event.WhichOneof("kind") == "result":
                    result = event.result
                    result.attempts = attempts.number
                    # Its last process may have imported its code later than that was looked at.
                    if not _is_unchanged(inputs, training_set, digest):
                        digest = None
                        yield TrainEvent(notice=f"{inputs.what}: its code changed meanwhile; its result is not reused")
                    self._record(inputs, digest, result, began)
                    self._folders.remove(checkpoints)
                yield event  # the result too: its process takes a few more milliseconds to end
        finally:
            if is_for_one_call(checkpoints):
                self._folders.remove(checkpoints)
        if result is None:
            raise InternalError(f"{inputs.what} ended without a result ({log})")

    def _checkpoints(self, inputs: TrainingInputs, digest: str | None) -> Path:
        """Where its checkpoints go. Only if its result may be reused, may a later call also go on from them."""
        if digest is None or not inputs.request.reuse:
            return self._folders.for_one_call()
        return self._folders.of(digest)

    def _record(self, inputs: TrainingInputs, digest: str | None, result: TrainResult, began: float) -> None:
        result.job_seconds = time.monotonic() - began
        result.input_digest = digest or ""
        lineage = _lineage(inputs, result)
        if digest is None:
            self._store.add_lineage(lineage)
        else:
            self._store.record(_finished(inputs, digest, result), lineage)


def _is_unchanged(inputs: TrainingInputs, training_set: TrainingSet, digest: str | None) -> bool:
    """Whether a process that starts now has the inputs of this digest; without one, that cannot be told."""
    return digest is None or inputs.digest(training_set, inputs.code().digest or "") == digest


def _queue(ticket: Ticket, caller: Caller) -> Generator[TrainEvent, None, bool]:
    """Waits for a slot; whether it was not free."""
    waited = False
    for waiting in ticket.queue(caller, "training"):
        waited = True
        yield TrainEvent(queued=TrainQueued(waiting=waiting))
    return waited


def _lineage(inputs: TrainingInputs, result: TrainResult) -> LineageRow:
    request = inputs.request
    return LineageRow(
        pipeline_id=request.pipeline_id,
        trigger_index=request.trigger_index,
        training_set=request.training_set,
        model=result.model,
        dataset=request.dataset,
        initial_model=inputs.initial_model,
        reused=result.reused,
        created_at=time.time(),
        trained=result.downsampling.trained or None,
        numbers=None if result.reused else _numbers(result),
        auxiliary_used=list(request.auxiliary_models) or None,
        auxiliary_left=list(result.downsampling.auxiliary_models) or None,
    )


def _numbers(result: TrainResult) -> dict[str, Any]:
    return {name: value for name, value in plain(result).items() if name not in NOT_NUMBERS}


def _finished(inputs: TrainingInputs, digest: str, result: TrainResult) -> FinishedTraining:
    request = inputs.request
    return FinishedTraining(
        input_digest=digest,
        model=result.model,
        dataset=request.dataset,
        training_set=request.training_set,
        initial_model=inputs.initial_model,
        pipeline_id=request.pipeline_id,
        trigger_index=request.trigger_index,
        num_samples=result.num_samples,
        samples_trained=result.samples_trained,
        batches=result.batches,
        epochs=result.epochs,
        train_seconds=result.train_seconds,
        store_seconds=result.store_seconds,
        job_seconds=result.job_seconds,
        epoch_losses=tuple(result.epoch_losses),
        downsampling=plain(result.downsampling) if result.HasField("downsampling") else None,
        numbers={name: value for name, value in _numbers(result).items() if name != "downsampling"},
    )


def _result_of(training: FinishedTraining) -> TrainResult:
    downsampling = None if training.downsampling is None else DownsamplingResult(**training.downsampling)
    identity: dict[str, Any] = {"model": training.model, "input_digest": training.input_digest, "reused": True}
    if training.numbers is not None:
        return TrainResult(**identity, downsampling=downsampling, **training.numbers)
    return TrainResult(
        **identity,
        num_samples=training.num_samples,
        samples_trained=training.samples_trained,
        batches=training.batches,
        epochs=training.epochs,
        train_seconds=training.train_seconds,
        store_seconds=training.store_seconds,
        job_seconds=training.job_seconds,
        final_loss=training.epoch_losses[-1] if training.epoch_losses else None,
        epoch_losses=training.epoch_losses,
        downsampling=downsampling,
    )
