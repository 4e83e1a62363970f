"""When a learning-rate scheduler steps."""

from __future__ import annotations

import torch
from torch.optim import lr_scheduler

from modyn.core.config.pipeline import LrSchedulerSection
from modyn.trainer_server.schedule import Schedule


class LearningRates:
    """Steps a scheduler after batches or epochs, never further than the totals it may have been built for.

    Args:
        scheduler: None: rates stay what they are.
    """

    def __init__(
        self, scheduler: lr_scheduler.LRScheduler | None, section: LrSchedulerSection | None, schedule: Schedule
    ) -> None:
        self._scheduler = scheduler
        self._every = section.step_every if section is not None else None
        self._left = schedule.total_batches if self._every == "batch" else schedule.epochs

    def batch_done(self, loss: torch.Tensor, steps: int) -> None:
        """A batch was trained, which counts as so many."""
        if self._every == "batch":
            for _ in range(steps):
                self._step(loss)

    def epoch_done(self, loss: float) -> None:
        """An epoch was trained, with this mean loss."""
        if self._every == "epoch":
            self._step(loss)

    def _step(self, loss: float | torch.Tensor) -> None:
        if self._scheduler is None or not self._left:
            return
        self._left -= 1
        if isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step(float(loss))
        else:
            self._scheduler.step()
