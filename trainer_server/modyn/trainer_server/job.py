"""A training job: runs in a process of its own, reads its samples from storage, stores the model there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from modyn.core.config.pipeline import DataSection, ModelSection, TrainingSection
from modyn.core.config.problems import parse_section
from modyn.core.out_of_memory import memory_guard
from modyn.core.peers import Addresses, Peers
from modyn.core.randomness import Purpose
from modyn.core.values import from_value
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.growing import num_outputs
from modyn.models.weights import dump
from modyn.models.workers import ParserPool
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainJob, TrainRequest, TrainResult
from modyn.storage.reader import store_model
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.checkpoints import NO_CHECKPOINTS, CheckpointFiles, Checkpoints
from modyn.trainer_server.downsampled import Downsampled, makes_own_batches
from modyn.trainer_server.feeds import Feed, WholeFeed
from modyn.trainer_server.loop import Setup, train
from modyn.trainer_server.parallel import ALONE, Parallel
from modyn.trainer_server.progress import Emit, Progress
from modyn.trainer_server.runtime import configure, limit_numpy, occupied, seed_everything
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.steps import OwnStep
from modyn.trainer_server.strategies import strategy_of
from modyn.trainer_server.training_sets import TrainingSamples, read_training_set
from modyn.trainer_server.validation import HeldOut, early_stopping
from modyn.trainer_server.warm_start import NewClasses, begin_with, resume_optimizers, store_optimizers

MEMORY_REMEDY = "make it smaller; training.gradient_accumulation keeps the samples per optimizer step"


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: trains as a serialised :class:`TrainJob` says and emits serialised :class:`TrainEvent` messages.

    Raises:
        ModynError: what went wrong, for the user.
    """
    work(TrainJob.FromString(payload), emit, lambda: ALONE)


def work(job: TrainJob, emit: Emit, join: Callable[[], Parallel]) -> None:
    """What each process of a training does.

    Args:
        job: what to train.
        emit: takes serialised events; those of processes that are not the main one go nowhere.
        join: meets the other processes; asked once.

    Raises:
        ModynError: what went wrong, for the user.
    """
    request = job.request
    root = request.code.root if request.code.HasField("root") else None
    section = parse_section(TrainingSection, from_value(request.training), "training")
    data = parse_section(DataSection, from_value(request.data), "data")
    # First of all: processes are forked while there are neither channels nor threads.
    with _parser_pool(data, section, root, job.threads) as pool:
        parallel = join()
        _work(job, emit if parallel.is_main else _unheard, parallel, pool, section=section, data=data, root=root)


def _unheard(event: bytes) -> None:
    """Events of processes that are not the main one."""


def _parser_pool(
    data: DataSection, section: TrainingSection, root: str | None, threads: int
) -> AbstractContextManager[ParserPool | None]:
    """The processes that run the user's functions of single samples, if there are such functions and processes."""
    return (
        ParserPool(data, root, section.dataloader_workers, threads)
        if data.per_sample and section.dataloader_workers
        else nullcontext()
    )


def _work(
    job: TrainJob,
    emit: Emit,
    parallel: Parallel,
    pool: ParserPool | None,
    *,
    section: TrainingSection,
    data: DataSection,
    root: str | None,
) -> None:
    request = job.request
    device = configure(parallel.device(section.device), job.threads)
    if request.HasField("downsampling"):
        limit_numpy(job.threads)
    peers = Peers(Addresses(job.storage_address, job.selector_address, "", "", ""))

    progress = Progress(
        emit,
        section.record_loss_every,
        device=device,
        accurate=section.enable_accurate_gpu_measurements,
        loss_of="" if section.step is None else f" that training.step {section.step} returned",
    )

    # Connecting takes as long as everything else together: samples are on their way while the model is built.
    inputs = _Inputs(job, peers, Decoder(data, root), parallel, device, pool)
    with ThreadPoolExecutor(1) as background:
        opening = background.submit(inputs.open, section)
        seed_everything(request.seed, Purpose.MODEL_INIT, request.trigger_index)
        model = build_model(parse_section(ModelSection, from_value(request.model), "model"), root)
        outputs = num_outputs(model)
        begin_with(model, section, request, peers)
        opened = opening.result()
    opened.new_classes.make_room(model)
    source, schedule, downsampled = opened.source, opened.schedule, opened.downsampled
    setup = Setup.build(
        model,
        section,
        schedule,
        device,
        parallel,
        checkpoints=_checkpoints(job, section, progress, parallel),
        root=root,
        step=inputs.step(section, device, parallel),
    )
    resume_optimizers(setup, request, peers)
    feed: Feed = WholeFeed(source)
    if downsampled is not None:
        feed = downsampled.feed(source, setup, inputs.source, progress.notice)
    stopping = early_stopping(setup, opened.validation, request.trigger_index, progress.notice)
    seed_everything(request.seed, Purpose.TRAINING, request.trigger_index)

    progress.started(schedule)
    for notice in _beforehand(setup):
        progress.notice(notice)
    with memory_guard(str(device), "training.batch_size", section.batch_size, MEMORY_REMEDY):
        train_seconds = train(setup, feed, progress, stopping)
    if setup.step is not None:
        setup.step.close()
    if not parallel.is_main:
        return
    if source.num_deleted:
        progress.notice(
            f"trigger {request.trigger_index}: {source.num_deleted} of the {job.training_set.num_samples} samples of "
            "the training set were deleted after they had been selected; the model is trained on the rest"
        )
    if source.num_unlabelled:
        progress.notice(f"{source.num_unlabelled} samples without a label were left out of training")

    began = time.perf_counter()
    digest = _store(peers, request, dump(model))
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
        resumed_batches=progress.resumed_batches,
        telemetry=progress.telemetry(curve=True),
    )
    if stopping is not None:
        stopping.report(result)
    if downsampled is not None:
        result.downsampling.CopyFrom(downsampled.result())
    if (state := store_optimizers(setup, peers)) is not None:
        result.optimizer_state = state
    if (now := num_outputs(model)) != outputs:
        result.num_outputs = now or 0
    emit(TrainEvent(result=result).SerializeToString())


def _beforehand(setup: Setup) -> Iterator[str]:
    """What the user should know before it begins."""
    schedule, section = setup.schedule, setup.section
    for notice in (setup.parallel.notice(setup.model), occupied(setup.device)):
        if notice is not None:
            yield notice
    if section.drop_last_batch and not schedule.drop_last:
        yield (
            f"training.drop_last_batch: an epoch has {schedule.samples_per_epoch} samples, fewer than one batch of "
            f"{section.batch_size}; they are trained as one batch"
        )


def _store(peers: Peers, request: TrainRequest, model: bytes) -> str:
    """Stores the model as the request says; its digest."""
    if not request.HasField("delta"):
        return store_model(peers.storage, model)
    delta = request.delta
    interval = delta.full_model_interval if delta.HasField("full_model_interval") else None
    return store_model(peers.storage, model, delta.parent, interval)


def _checkpoints(job: TrainJob, section: TrainingSection, progress: Progress, parallel: Parallel) -> Checkpoints:
    if not job.HasField("checkpoints"):
        return NO_CHECKPOINTS
    return CheckpointFiles(Path(job.checkpoints), section.checkpointing, progress.notice, parallel)


@dataclass(frozen=True)
class _Opened:
    source: BatchSource
    schedule: Schedule
    downsampled: Downsampled | None
    validation: BatchSource | None
    new_classes: NewClasses


@dataclass(frozen=True)
class _Inputs:
    """Where a job gets its samples from."""

    job: TrainJob
    peers: Peers
    decoder: Decoder
    parallel: Parallel
    device: torch.device
    pool: ParserPool | None

    def open(self, section: TrainingSection) -> _Opened:
        """The samples of the training itself."""
        request = self.job.request
        to_pass = request.num_samples_to_pass if request.HasField("num_samples_to_pass") else None
        whole = read_training_set(self.job.training_set, self.peers)
        new_classes = self.new_classes(section, whole)
        held = HeldOut.of(whole, section.early_stopping, request.seed)
        samples = held.training
        validation = None
        if held.validation is not None:
            validation = self.source(held.validation, section, drop_last=False)
        strategy = strategy_of(request)
        schedule = Schedule.of(len(samples), section, to_pass)
        if strategy is None:
            source = self.source(samples, section, drop_last=schedule.drop_last, parallel=self.parallel)
            source.prefetch(0)
            return _Opened(source, schedule, None, validation, new_classes)
        downsampled = Downsampled.of(strategy, schedule, request, samples, self.peers)
        schedule = Schedule.downsampled(len(downsampled.samples), section, to_pass, strategy)
        # Whatever makes batches of parts of others leaves the last one out itself.
        drop_last = schedule.drop_last and not makes_own_batches(strategy)
        source = self.source(downsampled.samples, section, drop_last=drop_last)
        return _Opened(source, schedule, downsampled, validation, new_classes)

    def new_classes(self, section: TrainingSection, samples: TrainingSamples) -> NewClasses:
        labels = self.job.training_set.labels if self.job.training_set.HasField("labels") else None
        return NewClasses(section, self.peers, self.job.request.dataset, samples.keys, self.decoder, labels)

    def step(self, section: TrainingSection, device: torch.device, parallel: Parallel) -> OwnStep | None:
        """The user's own training step."""
        training_set = self.job.training_set
        return OwnStep.of(
            self.job.request,
            section,
            peers=self.peers,
            decoder=self.decoder,
            device=device,
            parallel=parallel,
            labels=training_set.labels if training_set.HasField("labels") else None,
        )

    def source(
        self, samples: TrainingSamples, section: TrainingSection, *, drop_last: bool, parallel: Parallel = ALONE
    ) -> BatchSource:
        request, training_set = self.job.request, self.job.training_set
        return BatchSource(
            self.peers.storage,
            request.dataset,
            samples,
            self.decoder,
            batch_size=section.batch_size,
            drop_last=drop_last,
            shuffle=(request.seed, request.trigger_index) if section.shuffle else None,
            draws=(request.seed, request.trigger_index),
            pool=self.pool,
            device=self.device,
            parallel=parallel,
            labels=training_set.labels if training_set.HasField("labels") else None,
        )
