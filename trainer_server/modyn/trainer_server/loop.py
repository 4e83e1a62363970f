"""The training loop, top to bottom."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from modyn.core.config.pipeline import TrainingSection
from modyn.core.errors import InvalidInputError, JobFailedError, ModynError
from modyn.models.usercode import describe_error
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.feeds import Feed
from modyn.trainer_server.learning_rates import LearningRates
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.optimizers import build_optimizers, build_scheduler
from modyn.trainer_server.progress import Progress
from modyn.trainer_server.schedule import Schedule


@dataclass(frozen=True)
class Setup:
    """Everything a training needs, built."""

    model: nn.Module
    loss: Loss
    optimizers: dict[str, Optimizer]
    scheduler: lr_scheduler.LRScheduler | None
    scaler: torch.amp.GradScaler
    schedule: Schedule
    device: torch.device
    section: TrainingSection

    @staticmethod
    def build(model: nn.Module, section: TrainingSection, schedule: Schedule, device: torch.device) -> Setup:
        """Moves the model to the device and builds what trains it.

        Raises:
            InvalidInputError: a key of the training section is wrong.
        """
        model.to(device)
        optimizers = build_optimizers(model, section.optimizers)
        scheduler = None
        if section.lr_scheduler is not None:
            scheduler = build_scheduler(section.lr_scheduler, optimizers, schedule)
        loss = Loss(section.optimization_criterion, device)
        return Setup(model, loss, optimizers, scheduler, _scaler(section, device), schedule, device, section)


def train(setup: Setup, feed: Feed, progress: Progress) -> float:
    """Trains until the schedule ends; seconds it took from the first batch on, with all that choosing samples took.

    Raises:
        InvalidInputError: data, model and loss do not fit each other.
        JobFailedError: the loss or the weights became infinite.
    """
    model, schedule, scaler = setup.model, setup.schedule, setup.scaler
    rates = LearningRates(setup.scheduler, setup.section.lr_scheduler, schedule)
    model.train()
    started = before = 0.0
    over = False
    for epoch in schedule.numbers():
        batches_before = progress.batches
        for batch in feed.epoch(epoch, last=epoch == schedule.epochs - 1 and not schedule.open_ended):
            if not progress.batches:
                started, before = time.perf_counter(), feed.costs.seconds
                progress.first_batch(after_seconds=before)

            # forward, in lower precision where asked for
            weights = batch.weights.to(setup.device, non_blocking=True) if batch.weights is not None else None
            with torch.autocast(setup.device.type, enabled=setup.section.amp):
                outputs = _forward(setup, batch)
                loss, losses = _loss(setup, feed, outputs, batch, weights)

            # backward and update; the scaler is a no-op unless fp16 is in use
            for optimizer in setup.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            for optimizer in setup.optimizers.values():
                scaler.step(optimizer)
            scaler.update()

            feed.trained(batch, losses)
            progress.batch_done(loss, len(batch))
            rates.batch_done(loss, feed.steps)
            if over := schedule.reached(progress.samples, progress.batches):
                break

        if progress.batches:
            feed.end_epoch()
            rates.epoch_done(progress.epoch_done())
        if over or progress.batches == batches_before:  # no epoch will ever have a batch again
            break
    progress.report()
    if not progress.batches:
        raise InvalidInputError(feed.source.why_empty())
    _check_weights(model)
    return before + time.perf_counter() - started


def _forward(setup: Setup, batch: Batch) -> Any:
    """The model's output on one batch; whatever the model raises becomes an error that shows the shapes."""
    if isinstance(batch.inputs, dict):
        inputs: Any = {name: tensor.to(setup.device, non_blocking=True) for name, tensor in batch.inputs.items()}
    else:
        inputs = batch.inputs.to(setup.device, non_blocking=True)
    try:
        return setup.model(inputs)
    except (ModynError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InvalidInputError(
            f"the model cannot process its inputs ({_shapes(batch.inputs)}): {describe_error(error)}; check "
            "model.config and the parser's output shape"
        ) from error


def _loss(
    setup: Setup, feed: Feed, outputs: Any, batch: Batch, weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The loss of a batch, and that of each sample if somebody wants it."""
    if feed.wants_losses:
        return setup.loss.with_each(outputs, batch.labels, weights, batch.keys)
    return setup.loss(outputs, batch.labels, weights, batch.keys), None


def _shapes(inputs: torch.Tensor | dict[str, torch.Tensor]) -> str:
    if isinstance(inputs, dict):
        return ", ".join(f"{name}: {_shapes(tensor)}" for name, tensor in inputs.items())
    return f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"


def _scaler(section: TrainingSection, device: torch.device) -> torch.amp.GradScaler:
    enabled = section.amp and device.type == "cuda"  # bf16, which CPUs use, needs no scaling
    try:
        return torch.amp.GradScaler(device.type, **{"enabled": enabled, **(section.grad_scaler_config or {})})
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidInputError(f"training.grad_scaler_config: {error}") from error


def _check_weights(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise JobFailedError(f"after the last batch the weights {name!r} are not finite; lower the learning rate")
