"""When a learning-rate scheduler steps."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch.optim import lr_scheduler

from modyn.core.config.pipeline import LrSchedulerSection
from modyn.trainer_server.schedule import Schedule


class CustomScheduler(Protocol):
    """A learning-rate schedule of the user's own."""

    def step(self) -> None:
        """After an optimizer step, or after an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Takes back what ``state_dict`` gave."""


Scheduler = lr_scheduler.LRScheduler | CustomScheduler


class LearningRates:
    """Steps a scheduler after optimizer steps or epochs, never further than the totals it may have been built for.

    Args:
        scheduler: None: rates stay what they are.
    """

    def __init__(self, scheduler: Scheduler | None, section: LrSchedulerSection | None, schedule: Schedule) -> None:
        self._scheduler = scheduler
        looks_at_losses = isinstance(cast("object", scheduler), lr_scheduler.ReduceLROnPlateau)
        self._plateau = cast("lr_scheduler.ReduceLROnPlateau", scheduler) if looks_at_losses else None
        self._every = section.step_every if section is not None else None
        self._left = schedule.total_steps if self._every == "batch" else schedule.epochs
        self._accumulation = schedule.accumulation
        self._loss: torch.Tensor | None = None
        """Of the last batch."""
        self._batches = 0
        """Planned batches that were trained in the epoch so far."""
        self._done = 0
        """Planned optimizer steps among them that were counted."""

    def batch_done(self, loss: torch.Tensor, count: int) -> None:
        """A batch was trained with this loss, and counts as so many planned ones."""
        self._loss = loss
        self._batches += count

    def stepped(self, *, applied: bool = True, last: bool = False) -> None:
        """Optimizers made a step for all batches so far.

        Args:
            applied: whether weights changed; schedulers do not go on without.
            last: whether it was the last one of its epoch, which may be for fewer batches.
        """
        if self._every != "batch":
            return
        planned = -(-self._batches // self._accumulation) if last else self._batches // self._accumulation
        count, self._done = planned - self._done, planned
        if applied and self._loss is not None:
            for _ in range(count):
                self._step(self._loss)

    def epoch_done(self, loss: float) -> None:
        """An epoch was trained, with this mean loss: of validation, or of training without it."""
        self._batches = self._done = 0
        if self._every == "epoch":
            self._step(loss)

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "left": self._left,
            "loss": self._loss,
            "batches": self._batches,
            "done": self._done,
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self._left, self._loss = state["left"], state["loss"]
        self._batches, self._done = state["batches"], state["done"]
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])

    def _step(self, loss: float | torch.Tensor) -> None:
        if self._scheduler is None or not self._left:
            return
        self._left -= 1
        if self._plateau is not None:
            self._plateau.step(float(loss))
        else:
            self._scheduler.step()
