"""Callbacks: what is called while a model is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modyn.core.registry import Plugin, Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TrainingView:
    """What a callback may look at and change.

    Attributes:
        model: in training mode between batches; not wrapped for several processes.
        optimizers: by name.
        epoch: 0, 1, 2 …
        batches: trained so far, over all epochs.
        samples: passed so far, over all epochs.
        is_main: whether this is the process that reports; the only one unless several share the training.
    """

    model: torch.nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    epoch: int
    batches: int
    samples: int
    is_main: bool


class TrainingEvents:
    """Called while a model is trained; every method does nothing unless a subclass says otherwise.

    What a training gives must depend on its inputs alone: take random numbers from torch's generator, which is seeded
    and goes into checkpoints. State of your own goes into checkpoints through :meth:`state`.
    """

    def on_begin(self, view: TrainingView) -> None:
        """Before the first batch; also when a training goes on from a checkpoint."""

    def on_batch_begin(self, view: TrainingView) -> None:
        """Before a batch's forward pass."""

    def on_before_step(self, view: TrainingView) -> None:
        """Gradients of an optimizer step are complete, unscaled and clipped."""

    def on_batch_end(self, view: TrainingView, loss: torch.Tensor) -> None:
        """After a batch; its loss is a detached scalar on the device (reading it waits for a GPU)."""

    def on_epoch_end(self, view: TrainingView, loss: float) -> None:
        """After an epoch, with its mean loss over samples."""

    def on_end(self, view: TrainingView) -> None:
        """After the last batch, before the model is stored; what it changes in the weights is stored."""

    def state(self) -> dict[str, Any]:
        """What has to survive a restart: tensors, numbers, strings, lists and dicts of them."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""


class Callback(Plugin, ABC):
    """A callback by name; its fields are its YAML keys."""

    @abstractmethod
    def build(self) -> TrainingEvents:
        """One for a new training."""


CALLBACKS: Registry[Callback] = Registry(
    "callback", key="name", package="modyn.trainer_server.callbacks", group="modyn.callbacks"
)
