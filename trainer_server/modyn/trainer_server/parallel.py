"""The processes that share one training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Parallel:
    """One process alone; subclasses spread a training over several.

    Batches are those of the whole training; each process trains a slice of every batch.
    """

    rank = 0
    """Of this process, from 0."""
    size = 1
    """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this process reports and stores."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process.

        Args:
            name: that of the whole training: ``cpu``, ``cuda`` or ``cuda:N``, the first of its GPUs.
        """
        return name

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the loop calls it: its gradients are the sums over all processes, divided by their number."""
        return model

    def notice(self, model: nn.Module) -> str | None:
        """What a user should know of training this model in several processes, if anything."""
        return None

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over all processes, without gradients; every process has to call it."""
        return values

    def agreed(self, answer: bool) -> bool:
        """The main process's answer; every process has to call it."""
        return answer

    def share_buffers(self, model: nn.Module) -> None:
        """Gives all processes the main one's buffers, such as batch statistics; every process has to call it."""

    def rows(self, count: int) -> slice:
        """Which rows of a batch of ``count`` samples this process trains."""
        each, more = divmod(count, self.size)  # the first ones get one more, so that no smaller batch gives anyone more
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))


ALONE = Parallel()


def reading(loss: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A loss with the gradients of one and the value of the other: what a process contributes to the loss of all, and
    that loss itself, to the bit the same in each of them."""
    told: torch.Tensor = _Reading.apply(loss, value)
    return told


class _Reading(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.to(loss.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None
