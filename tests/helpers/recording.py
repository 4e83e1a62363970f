"""Callbacks of a user, good and bad."""

from __future__ import annotations

from typing import Any

import torch

from modyn.core.plugins.callbacks import TrainingEvents, TrainingView


class Recorder(TrainingEvents):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_begin(self, view: TrainingView) -> None:
        self.seen.append("begin")

    def on_batch_begin(self, view: TrainingView) -> None:
        self.seen.append(f"batch {view.epoch}.{view.batches}")

    def on_before_step(self, view: TrainingView) -> None:
        self.seen.append("before")

    def on_batch_end(self, view: TrainingView, loss: torch.Tensor) -> None:
        self.seen.append(f"end {view.batches} {view.samples} {loss.requires_grad}")

    def on_epoch_end(self, view: TrainingView, loss: float) -> None:
        self.seen.append(f"epoch {view.epoch} {loss > 0}")

    def on_end(self, view: TrainingView) -> None:
        self.seen.append("done")


RECORDER = Recorder()


def recorder() -> Recorder:
    return RECORDER


class Warming:
    """A learning-rate schedule that holds the groups of its optimizers, as one of a user's own may."""

    def __init__(self, optimizers: list[torch.optim.Optimizer], steps: int) -> None:
        self.groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
        self.steps, self.done = steps, 0
        self.step()

    def step(self) -> None:
        self.done += 1
        self.set_rates()

    def set_rates(self) -> None:
        for group, lr in self.groups:
            group["lr"] = lr * min(1.0, self.done / self.steps)

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.set_rates()


class Broken(TrainingEvents):
    def on_batch_end(self, view: TrainingView, loss: torch.Tensor) -> None:
        raise RuntimeError("disk full")


def number() -> int:
    return 3


def needs_more(path: str) -> Recorder:
    return Recorder()
