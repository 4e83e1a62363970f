"""What happens at a trigger: select the training set, train, remember what it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from modyn.core.errors import CancelledError, ModynError
from modyn.core.keysets import KeySet
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, DownsamplingStrategy
from modyn.core.plugins.selection import SELECTION_POLICIES
from modyn.core.plugins.triggers import Firing
from modyn.core.values import to_value
from modyn.proto import supervisor_pb2 as pb
from modyn.proto import trainer_server_pb2 as trainer_pb
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSet, TrainingSetHeader
from modyn.proto.storage_pb2 import FetchModelRequest, LabelsAsOf
from modyn.supervisor.context import RunContext
from modyn.supervisor.journal import TriggerRow
from modyn.supervisor.labels import KnownLabels


class Trainings:
    """Runs the trainings of one pipeline, one after the other, each warm-started from the last."""

    def __init__(self, run: RunContext, labels: KnownLabels) -> None:
        self._pipeline_id = str(run.pipeline_id)
        self._config = config = run.config
        self._options = run.options
        self._peers = run.peers
        self._trainers = run.trainers
        self._events = run.events
        self._stop = run.stop
        self._labels = labels
        self._gpus = 0 if config.training.device == "cpu" else config.training.gpus
        self._last_model: str | None = None
        self._last_optimizer_state: str | None = None
        self._training_sets: list[str] = []
        """Digests of what was trained on so far, oldest first; only where the pipeline's own step may ask for it."""
        self._left: trainer_pb.DownsamplingResult | None = None
        """What the last downsampled training left for the next one."""
        self._left_by: DownsamplingStrategy | None = None
        # Sections are encoded once: a trigger's fixed cost should hold nothing that can be done before.
        self._selection = to_value(SELECTION_POLICIES.dump(config.selection_strategy))
        self._training = to_value(config.training.model_dump(mode="json"))
        self._model = to_value(config.model.model_dump(mode="json"))
        self._data = to_value(config.data.model_dump(mode="json"))

    def run(
        self,
        firing: Firing,
        new_data: KeySet,
        row: TriggerRow,
        ready: Callable[[], None],
        failed: Callable[[TriggerRow], None],
    ) -> TriggerRow:
        """Selects and trains; answers ``row`` with what became of it.

        Args:
            ready: returns when something may be trained, or raises why nothing may be.
            failed: takes the row of a trigger whose training failed, before that is raised.

        Raises:
            ModynError: whatever the selector or the training job raised.
            CancelledError: the pipeline was stopped meanwhile.
        """
        fired_at, started = time.time(), time.perf_counter()
        index = row.trigger_index
        status = pb.TriggerStatus(index=index, timestamp=firing.timestamp, reason=firing.reason, num_new=len(new_data))
        self._events.add(trigger=status)
        labels = self._labels.at(row.last_timestamp, new_data)
        training_set = self._peers.selector.CreateTrainingSet(self._new_data(row, new_data, labels))
        row = replace(
            row,
            samples=training_set.num_samples,
            unlabelled=training_set.num_unlabelled,
            select_seconds=time.perf_counter() - started,
        )
        status.num_selected = training_set.num_samples
        self._events.add(trigger=status)
        if training_set.num_samples == 0:
            self._events.add(notice=f"trigger {index}: the training set is empty, nothing is trained")
            return row
        ready()
        row = replace(row, training_set=training_set.digest)
        try:
            row = self._train(index, training_set, fired_at, row)
        except CancelledError:
            raise
        except ModynError as error:
            failed(replace(row, error=error.message, total_seconds=time.perf_counter() - started))
            raise
        self._last_model = row.model
        if self._config.training.step is not None:
            self._training_sets.append(training_set.digest)
        return row

    def _new_data(self, row: TriggerRow, new_data: KeySet, labels: LabelsAsOf) -> Iterator[CreateTrainingSetRequest]:
        yield CreateTrainingSetRequest(
            header=TrainingSetHeader(
                pipeline_id=self._pipeline_id,
                trigger_index=row.trigger_index,
                dataset=self._config.data.dataset_id,
                selection=self._selection,
                seed=self._config.training.seed,
                last_timestamp=row.last_timestamp,
                labels=labels,
            )
        )
        for part in new_data.to_protos():
            yield CreateTrainingSetRequest(new_data=part)

    def _train(self, index: int, training_set: TrainingSet, fired_at: float, row: TriggerRow) -> TriggerRow:
        requested = time.time()
        status = pb.TrainingStatus(trigger_index=index)
        first_batch: float | None = None
        result: trainer_pb.TrainResult | None = None
        request = self._request(index, training_set)
        for event in self._trainers.train(request, self._stop, lambda text: self._events.add(notice=text)):
            match event.WhichOneof("kind"):
                case "result":
                    result = event.result
                case "first_batch":
                    # A job that was killed and went on has another one.
                    first_batch = first_batch or event.first_batch.unix_time
                case "notice":
                    self._events.add(notice=event.notice)
                case kind:
                    if kind == "resumed":
                        number = event.resumed.batches
                        self._events.add(notice=f"trigger {index}: its training goes on after batch {number}")
                    _update(status, event)
                    self._events.add(progress=True, training=status)
        assert result is not None, "a training that ends well sends its result"
        if result.HasField("downsampling"):
            self._left, self._left_by = result.downsampling, self._config.selection_strategy.downsampling(index)
        self._last_optimizer_state = result.optimizer_state if result.HasField("optimizer_state") else None
        status.done, status.reused, status.queued = True, result.reused, False
        status.samples = status.total_samples = result.samples_trained
        self._events.add(training=status)
        stored = self._peers.storage.DescribeModel(FetchModelRequest(digest=result.model))
        return replace(
            row,
            model=result.model,
            input_digest=result.input_digest,
            samples_trained=result.samples_trained,
            batches=result.batches,
            final_loss=result.final_loss if result.HasField("final_loss") else None,
            reused=result.reused,
            first_batch_ms=None if first_batch is None else (first_batch - fired_at) * 1000,
            start_seconds=0.0 if first_batch is None else first_batch - requested,
            train_seconds=result.train_seconds,
            store_seconds=result.store_seconds,
            training_seconds=result.job_seconds,
            gpu_seconds=result.train_seconds * self._gpus,
            bytes_read=result.telemetry.bytes_read,
            model_bytes=stored.stored_bytes,
            **_downsampling(self._config.selection_strategy.downsampling(index), result),
        )

    def _request(self, index: int, training_set: TrainingSet) -> trainer_pb.TrainRequest:
        training = self._config.training
        request = trainer_pb.TrainRequest(
            pipeline_id=self._pipeline_id,
            trigger_index=index,
            dataset=self._config.data.dataset_id,
            training_set=training_set.digest,
            training=self._training,
            model=self._model,
            data=self._data,
            seed=training.seed,
            reuse=self._options.reuse,
            code=CodeOrigin(root=self._options.code_root),
        )
        pretrained = training.initial_model_id if training.initial_model == "pretrained" else None
        initial = (self._last_model or pretrained) if training.use_previous_model else pretrained
        if initial is not None:
            request.initial_model = initial
        if training.use_previous_model and self._last_optimizer_state is not None:
            request.optimizer_state = self._last_optimizer_state
        incremental = self._config.model_storage and self._config.model_storage.incremental_model_strategy
        if incremental and self._last_model is not None:
            request.delta.parent = self._last_model
            if incremental.full_model_interval is not None:
                request.delta.full_model_interval = incremental.full_model_interval
        if training.step is not None:
            request.previous_training_sets.extend(self._training_sets)
            if self._last_model is not None:
                request.previous_model = self._last_model
        passes = training.num_samples_to_pass
        if passes is not None and index < len(passes):
            request.num_samples_to_pass = passes[index]
        self._ask_to_downsample(request)
        return request

    def _ask_to_downsample(self, request: trainer_pb.TrainRequest) -> None:
        strategy = self._config.selection_strategy.downsampling(request.trigger_index)
        if strategy is None:
            return
        request.downsampling.CopyFrom(to_value(DOWNSAMPLING_STRATEGIES.dump(strategy)))
        if self._left is None or strategy != self._left_by:  # another strategy's models and scores are other things
            return
        if strategy.reused and self._left.HasField("scores"):
            request.scores = self._left.scores
        if strategy.carries_models:
            request.auxiliary_models.extend(self._left.auxiliary_models)


def _downsampling(strategy: DownsamplingStrategy | None, result: trainer_pb.TrainResult) -> dict[str, Any]:
    """What downsampling did, as columns of the trigger's row."""
    if strategy is None or not result.HasField("downsampling"):
        return {}
    done = result.downsampling
    return {
        "downsampling": strategy.plugin_name,
        "trained": done.trained or None,
        "samples_offered": done.samples_offered,
        "samples_scored": done.samples_scored,
        "scores_reused": done.scores_reused,
        "auxiliary_samples": done.auxiliary_samples,
        "score_seconds": done.score_seconds,
        "choose_seconds": done.choose_seconds,
        "auxiliary_seconds": done.auxiliary_seconds,
    }


def _update(status: pb.TrainingStatus, event: trainer_pb.TrainEvent) -> None:
    match event.WhichOneof("kind"):
        case "queued":
            status.queued = True
        case "started":
            status.queued = False
            status.total_samples = event.started.total_samples
            status.epochs = event.started.epochs
        case "resumed":
            status.samples, status.epoch = event.resumed.samples, event.resumed.epoch
        case "progress":
            status.samples = event.progress.samples
            status.epoch = event.progress.epoch
            status.telemetry.CopyFrom(event.progress.telemetry)
            if event.progress.HasField("loss"):
                status.loss = event.progress.loss
