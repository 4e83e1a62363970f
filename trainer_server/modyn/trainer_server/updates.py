"""From losses to changed weights: backward passes, accumulated gradients, clipping, optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from modyn.core.config.pipeline import TrainingSection
from modyn.core.config.training import GradientClippingSection
from modyn.trainer_server.optimizer_states import put_back


class Updates:
    """Changes a model's weights, once for each group of ``training.gradient_accumulation`` batches.

    The gradient of a group is that of the mean loss over all of its samples, as if they had been one batch: batches
    count by their samples. (With ``reduction: sum`` of the criterion it is that of the sum.)

    Args:
        optimizers: by name.
        scaler: of losses in float16; does nothing where it is off.
        section: accumulation, batch size, clipping and the criterion's reduction are used.
    """

    def __init__(
        self, optimizers: dict[str, Optimizer], scaler: torch.amp.GradScaler, section: TrainingSection
    ) -> None:
        self._optimizers = optimizers
        self._scaler = scaler
        self._scaling: bool = scaler.is_enabled()
        self._batches = section.gradient_accumulation
        self._expected = section.gradient_accumulation * section.batch_size
        """Samples of a full group; gradients are scaled for it from the start, so that they stay of one size."""
        self._sums = section.optimization_criterion.config.get("reduction") == "sum"
        self._clipping: GradientClippingSection | None = section.gradient_clipping
        self._scale = scaler.get_scale() if self._scaling else 1.0
        self._pending = 0
        """Batches of the group so far."""
        self._samples = 0

    @property
    def full(self) -> bool:
        """Whether a group is complete."""
        return self._pending == self._batches

    @property
    def pending(self) -> bool:
        """Whether there are gradients that were not applied."""
        return self._pending > 0

    def backward(self, loss: torch.Tensor, count: int) -> None:
        """Adds the gradients of one batch of ``count`` samples to its group."""
        if not self._pending:
            for parameter in self._parameters():
                parameter.grad = None
        self._pending += 1
        self._samples += count
        if self._batches > 1 and not self._sums:
            loss = loss * (count / self._expected)
        if self._scaling:
            loss = self._scaler.scale(loss)
        loss.backward()

    def prepare(self, *, unscale: bool = False) -> None:
        """Makes the group's gradients what the optimizers get: averaged, unscaled, clipped.

        Args:
            unscale: also where nothing is clipped.
        """
        if self._scaling and (unscale or self._clipping is not None):
            for optimizer in self._with_gradients():
                self._scaler.unscale_(optimizer)
        if self._batches > 1 and not self._sums and self._samples != self._expected:
            gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
            torch._foreach_mul_(gradients, self._expected / self._samples)
        if self._clipping is None:
            return
        if self._clipping.max_norm is not None:
            clip_grad_norm_(self._parameters(), self._clipping.max_norm, self._clipping.norm_type)
        elif self._clipping.max_value is not None:
            clip_grad_value_(self._parameters(), self._clipping.max_value)

    def apply(self) -> bool:
        """One step of each optimizer; False if the scaler left it out, because gradients were infinite in float16."""
        self._pending = self._samples = 0
        if not self._scaling:
            for optimizer in self._optimizers.values():
                optimizer.step()
            return True
        if not (optimizers := self._with_gradients()):
            return True
        for optimizer in optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        before, self._scale = self._scale, self._scaler.get_scale()
        return self._scale >= before

    def state(self) -> dict[str, Any]:
        """For checkpoints; in the middle of a group with its gradients so far."""
        gradients = [parameter.grad for parameter in self._parameters()] if self._pending else []
        return {
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "scaler": self._scaler.state_dict(),
            "pending": self._pending,
            "samples": self._samples,
            "gradients": {str(i): gradient for i, gradient in enumerate(gradients) if gradient is not None},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        for name, optimizer in self._optimizers.items():
            put_back(optimizer, state["optimizers"][name])
        self._scaler.load_state_dict(state["scaler"])
        self._scale = self._scaler.get_scale() if self._scaling else 1.0
        self._pending, self._samples = state["pending"], state["samples"]
        parameters = list(self._parameters())
        for position, gradient in state["gradients"].items():
            parameter = parameters[int(position)]
            parameter.grad = gradient.to(parameter.device, copy=True)

    def _with_gradients(self) -> list[Optimizer]:
        """Those that have something to do: the scaler refuses others, such as one whose layers are all frozen."""
        return [
            optimizer
            for optimizer in self._optimizers.values()
            if any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
        ]

    def _parameters(self) -> Iterator[nn.Parameter]:
        """All that are trained."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                yield from group["params"]
