"""A training job: runs in a process of its own, reads its samples from storage, stores the model there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from modyn.core.config.pipeline import DataSection, ModelSection, TrainingSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import JobFailedError
from modyn.core.peers import Addresses, Peers
from modyn.core.randomness import Purpose
from modyn.core.values import from_value
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.weights import dump, load
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainJob, TrainResult
from modyn.storage.reader import fetch_model, store_model
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.downsampled import Downsampled, makes_own_batches
from modyn.trainer_server.feeds import Feed, WholeFeed
from modyn.trainer_server.loop import Setup, train
from modyn.trainer_server.progress import Emit, Progress
from modyn.trainer_server.runtime import configure, limit_numpy, seed_everything
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.strategies import strategy_of
from modyn.trainer_server.training_sets import TrainingSamples, read_training_set


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: trains as a serialised :class:`TrainJob` says and emits serialised :class:`TrainEvent` messages.

    Raises:
        ModynError: what went wrong, for the user.
    """
    job = TrainJob.FromString(payload)
    request = job.request
    root = request.code.root if request.code.HasField("root") else None
    section = parse_section(TrainingSection, from_value(request.training), "training")
    data = parse_section(DataSection, from_value(request.data), "data")
    device = configure(section.device, job.threads)
    if request.HasField("downsampling"):
        limit_numpy(job.threads)
    peers = Peers(Addresses(job.storage_address, job.selector_address, "", "", ""))

    progress = Progress(emit, section.record_loss_every)

    # Connecting takes as long as everything else together: samples are on their way while the model is built.
    inputs = _Inputs(job, peers, Decoder(data, root))
    with ThreadPoolExecutor(1) as background:
        opening = background.submit(inputs.open, section)
        seed_everything(request.seed, Purpose.MODEL_INIT, request.trigger_index)
        model = build_model(parse_section(ModelSection, from_value(request.model), "model"), root)
        if request.HasField("initial_model"):
            load(model, fetch_model(peers.storage, request.initial_model))
        opened = opening.result()
    source, schedule, downsampled = opened.source, opened.schedule, opened.downsampled
    setup = Setup.build(model, section, schedule, device)
    feed: Feed = WholeFeed(source)
    if downsampled is not None:
        feed = downsampled.feed(source, setup, inputs.source, progress.notice)
    seed_everything(request.seed, Purpose.TRAINING, request.trigger_index)

    progress.started(schedule)
    if section.drop_last_batch and not schedule.drop_last:
        progress.notice(
            f"training.drop_last_batch: an epoch has {schedule.samples_per_epoch} samples, fewer than one batch of "
            f"{section.batch_size}; they are trained as one batch"
        )
    try:
        train_seconds = train(setup, feed, progress)
    except torch.OutOfMemoryError as error:
        raise JobFailedError(
            f"{section.device} ran out of memory with training.batch_size {section.batch_size} ({error}); "
            "make it smaller"
        ) from error
    if source.num_deleted:
        progress.notice(
            f"trigger {request.trigger_index}: {source.num_deleted} of the {job.training_set.num_samples} samples of "
            "the training set were deleted after they had been selected; the model is trained on the rest"
        )
    if source.num_unlabelled:
        progress.notice(f"{source.num_unlabelled} samples without a label were left out of training")

    began = time.perf_counter()
    digest = store_model(peers.storage, dump(model))
    result = TrainResult(
        model=digest,
        num_samples=job.training_set.num_samples,
        samples_trained=progress.samples,
        batches=progress.batches,
        epochs=len(progress.epoch_losses),
        train_seconds=train_seconds,
        store_seconds=time.perf_counter() - began,
        final_loss=progress.epoch_losses[-1],
        epoch_losses=progress.epoch_losses,
    )
    if downsampled is not None:
        result.downsampling.CopyFrom(downsampled.result())
    emit(TrainEvent(result=result).SerializeToString())


@dataclass(frozen=True)
class _Opened:
    source: BatchSource
    schedule: Schedule
    downsampled: Downsampled | None


@dataclass(frozen=True)
class _Inputs:
    """Where a job gets its samples from."""

    job: TrainJob
    peers: Peers
    decoder: Decoder

    def open(self, section: TrainingSection) -> _Opened:
        """The samples of the training itself."""
        request = self.job.request
        to_pass = request.num_samples_to_pass if request.HasField("num_samples_to_pass") else None
        samples = read_training_set(self.job.training_set, self.peers)
        strategy = strategy_of(request)
        schedule = Schedule.of(len(samples), section, to_pass)
        if strategy is None:
            source = self.source(samples, section, drop_last=schedule.drop_last)
            source.prefetch(0)
            return _Opened(source, schedule, None)
        downsampled = Downsampled.of(strategy, schedule, request, samples, self.peers)
        schedule = Schedule.downsampled(len(downsampled.samples), section, to_pass, strategy)
        # Whatever makes batches of parts of others leaves the last one out itself.
        drop_last = schedule.drop_last and not makes_own_batches(strategy)
        source = self.source(downsampled.samples, section, drop_last=drop_last)
        return _Opened(source, schedule, downsampled)

    def source(self, samples: TrainingSamples, section: TrainingSection, *, drop_last: bool) -> BatchSource:
        request, training_set = self.job.request, self.job.training_set
        return BatchSource(
            self.peers.storage,
            request.dataset,
            samples,
            self.decoder,
            batch_size=section.batch_size,
            drop_last=drop_last,
            shuffle=(request.seed, request.trigger_index) if section.shuffle else None,
            labels=training_set.labels if training_set.HasField("labels") else None,
        )
