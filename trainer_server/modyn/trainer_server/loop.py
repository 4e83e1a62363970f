"""The training loop, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from modyn.core.config.pipeline import TrainingSection
from modyn.core.errors import InvalidInputError, JobFailedError, ModynError
from modyn.core.plugins.callbacks import TrainingView
from modyn.models.shapes import misfit
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.checkpoints import NO_CHECKPOINTS, Checkpoints
from modyn.trainer_server.compiling import compiled, compiler_error
from modyn.trainer_server.feeds import Feed
from modyn.trainer_server.hooks import Hooks
from modyn.trainer_server.learning_rates import LearningRates, Scheduler
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.optimizers import build_optimizers, build_scheduler
from modyn.trainer_server.parallel import ALONE, Parallel
from modyn.trainer_server.precision import loss_scaler, lower_precision
from modyn.trainer_server.progress import Progress
from modyn.trainer_server.resuming import Generators, Position, Resumable, Weights, resume, save
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.steps import OwnStep, on_device
from modyn.trainer_server.updates import Updates
from modyn.trainer_server.validation import EarlyStopping


@dataclass(frozen=True)
class Setup:
    """Everything a training needs, built.

    Attributes:
        model: on its device.
        network: the model as the loop calls it: perhaps compiled, perhaps wrapped for several processes.
        precision: what forward passes compute with where they may; None: the type of the weights.
        hooks: callbacks.
        step: the user's own; None: model and criterion.
    """

    model: nn.Module
    network: nn.Module
    loss: Loss
    optimizers: dict[str, Optimizer]
    scheduler: Scheduler | None
    updates: Updates
    schedule: Schedule
    device: torch.device
    section: TrainingSection
    parallel: Parallel
    checkpoints: Checkpoints
    precision: torch.dtype | None
    hooks: Hooks
    step: OwnStep | None

    @staticmethod
    def build(
        model: nn.Module,
        section: TrainingSection,
        schedule: Schedule,
        device: torch.device,
        parallel: Parallel = ALONE,
        *,
        checkpoints: Checkpoints = NO_CHECKPOINTS,
        root: str | None = None,
        step: OwnStep | None = None,
    ) -> Setup:
        """Moves the model to the device and builds what trains it.

        Args:
            root: folder that user code may be imported from, or None.
            step: the user's own.

        Raises:
            InvalidInputError: a key of the training section is wrong.
            NotAvailableError: something it needs is not installed.
        """
        model.to(device)
        optimizers = build_optimizers(model, section.optimizers)
        scheduler = None
        if section.lr_scheduler is not None:
            scheduler = build_scheduler(section.lr_scheduler, optimizers, schedule, root)
        network = parallel.wrap(model)
        return Setup(
            model=model,
            network=network if section.compile is None else compiled(network, section.compile),
            loss=Loss(section.optimization_criterion, device, parallel),
            optimizers=optimizers,
            scheduler=scheduler,
            updates=Updates(optimizers, loss_scaler(section, device), section),
            schedule=schedule,
            device=device,
            section=section,
            parallel=parallel,
            checkpoints=checkpoints,
            precision=lower_precision(section, device),
            hooks=Hooks.build(section.callbacks, root),
            step=step,
        )


def train(setup: Setup, feed: Feed, progress: Progress, stopping: EarlyStopping | None = None) -> float:
    """Trains until the schedule ends; seconds it took from the first batch on, with all that choosing samples took.

    Args:
        stopping: ends the training before that.

    Raises:
        InvalidInputError: data, model and loss do not fit each other.
        JobFailedError: the loss or the weights became infinite.
    """
    model, schedule, watch = setup.model, setup.schedule, progress.watch
    rates = LearningRates(setup.scheduler, setup.section.lr_scheduler, schedule)
    resumable = _resumable(setup, feed, progress, rates, stopping)
    position = resume(setup.checkpoints, resumable)
    counted = feed.costs.seconds if progress.batches else 0.0  # before the restart
    model.train()
    tell(setup, progress, "on_begin", position.epoch)
    over = False
    watch.start()
    for epoch in schedule.numbers(position.epoch):
        batches_before = progress.batches - position.batches
        last = epoch == schedule.epochs - 1 and not schedule.open_ended
        for batch in feed.epoch(epoch, last=last, skip=position.batches):
            watch.lap("wait")
            if not progress.begun:
                progress.first_batch(after_seconds=feed.costs.seconds - counted)

            here = Position(epoch, progress.batches - batches_before)
            loss, losses, stepped = train_batch(setup, batch, progress, here, wants_losses=feed.wants_losses)
            feed.trained(batch, losses)
            progress.batch_done(loss, batch.of)
            rates.batch_done(loss, feed.steps)
            if stepped is not None:
                rates.stepped(applied=stepped)
            tell(setup, progress, "on_batch_end", epoch, loss)

            if over := schedule.reached(progress.samples, progress.batches):
                break  # nothing is saved any more: whoever went on from there would train the rest of the epoch
            if setup.checkpoints.due(progress.batches):
                watch.start()
                save(setup.checkpoints, resumable, Position(epoch, progress.batches - batches_before))
                watch.lap("checkpoint")
            watch.start()

        position = Position(epoch + 1, 0)
        if setup.updates.pending:  # fewer batches than make a group were left
            rates.stepped(applied=_update(setup, progress, epoch), last=True)
        if progress.batches:
            feed.end_epoch()
            mean_loss = progress.epoch_done()
            tell(setup, progress, "on_epoch_end", epoch, mean_loss)  # first: what callbacks do is judged, and kept
            rates.epoch_done(_validated(stopping, progress, epoch, mean_loss))
            over = over or (stopping is not None and stopping.over)
        if over or progress.batches == batches_before:  # no epoch will ever have a batch again
            break
        watch.start()
    progress.report()
    if not progress.batches:
        raise InvalidInputError(feed.source.why_empty())
    if stopping is not None:
        stopping.restore()
    tell(setup, progress, "on_end", position.epoch - 1)
    _check_weights(model)
    return progress.train_seconds


def _resumable(
    setup: Setup, feed: Feed, progress: Progress, rates: LearningRates, stopping: EarlyStopping | None
) -> dict[str, Resumable]:
    """All parts of a training that checkpoints hold, by name."""
    if setup.step is not None and feed.wants_losses:
        raise InvalidInputError(
            f"training.step {setup.step.name!r} gives one loss for a batch, and the downsampling strategy needs that "
            "of each sample; use another strategy, or leave training.step out"
        )
    progress.reads(feed.source)
    parts: dict[str, Resumable] = {
        "model": Weights(setup.model),
        "updates": setup.updates,
        "rates": rates,
        "feed": feed,
        "progress": progress,
        "callbacks": setup.hooks,
        "generators": Generators(),
    }
    if stopping is not None:
        parts["validation"] = stopping
    return parts


class Trained(NamedTuple):
    """What became of a batch.

    Attributes:
        loss: mean over its samples, a scalar without gradients.
        losses: of each sample, [n], if they were wanted.
        stepped: whether the weights changed; None: its group is not complete yet.
    """

    loss: torch.Tensor
    losses: torch.Tensor | None
    stepped: bool | None


def train_batch(
    setup: Setup, batch: Batch, progress: Progress, position: Position, *, wants_losses: bool = False
) -> Trained:
    """Forward pass, loss, backward pass and, where a group of batches is complete, an optimizer step.

    Args:
        position: of the batch: its epoch, and how many batches of it were before.
        wants_losses: whether the loss of each sample is asked for.

    Raises:
        InvalidInputError: data, model and loss do not fit each other.
    """
    updates, watch = setup.updates, progress.watch
    tell(setup, progress, "on_batch_begin", position.epoch)
    if setup.precision is None:
        loss, losses = _losses(setup, batch, position, wants_losses)
    else:
        with torch.autocast(setup.device.type, dtype=setup.precision):
            loss, losses = _losses(setup, batch, position, wants_losses)
    watch.lap("forward")

    updates.backward(loss, batch.of)
    watch.lap("backward")

    return Trained(loss.detach(), losses, _update(setup, progress, position.epoch) if updates.full else None)


def _update(setup: Setup, progress: Progress, epoch: int) -> bool:
    """An optimizer step; whether the weights changed."""
    listening = setup.hooks.on("on_before_step")
    setup.updates.prepare(unscale=listening)
    if listening:
        progress.watch.lap("step")
        tell(setup, progress, "on_before_step", epoch)
    applied = setup.updates.apply()
    progress.watch.lap("step")
    return applied


def _losses(
    setup: Setup, batch: Batch, position: Position, wants_losses: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The loss of a batch, and that of each sample if somebody wants it."""
    if setup.step is not None:
        return setup.step(setup.network, batch, position.epoch, position.batches), None
    outputs = forward(setup, batch)
    weights = batch.weights.to(setup.device, non_blocking=True) if batch.weights is not None else None
    if wants_losses:
        return setup.loss.with_each(outputs, batch.labels, weights, batch.keys)
    checked, padding = batch.label_range, batch.padding
    return setup.loss(outputs, batch.labels, weights, batch.keys, label_range=checked, padding=padding), None


def forward(setup: Setup, batch: Batch) -> Any:
    """The model's output on one batch; whatever the model raises becomes an error that shows the shapes."""
    inputs = on_device(batch.inputs, setup.device)
    try:
        return setup.network(inputs)
    except (ModynError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        compiler = None if setup.section.compile is None else compiler_error(error, setup.model, inputs)
        raise compiler or misfit(setup.model, inputs, error) from error


def _validated(stopping: EarlyStopping | None, progress: Progress, epoch: int, loss: float) -> float:
    """The loss that learning rates go by: on samples that are held out, if there are any."""
    if stopping is None:
        return loss
    progress.watch.start()
    judged = stopping.judge(epoch)
    progress.watch.lap("validation")
    return loss if judged is None else judged


def tell(setup: Setup, progress: Progress, event: str, epoch: int, *details: Any) -> None:
    """Calls callbacks, if any listens."""
    if not setup.hooks.on(event):
        return
    progress.watch.start()
    view = TrainingView(
        model=setup.model,
        optimizers=setup.optimizers,
        epoch=epoch,
        batches=progress.batches,
        samples=progress.samples,
        is_main=setup.parallel.is_main,
    )
    setup.hooks.call(event, view, *details)
    progress.watch.lap("callback")


def _check_weights(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise JobFailedError(f"after the last batch the weights {name!r} are not finite; lower the learning rate")
