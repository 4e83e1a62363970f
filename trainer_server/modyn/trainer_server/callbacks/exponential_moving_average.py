"""A moving average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from modyn.core.plugins.callbacks import CALLBACKS, Callback, TrainingEvents, TrainingView

if TYPE_CHECKING:
    import torch


@CALLBACKS.register("ExponentialMovingAverage")
class ExponentialMovingAverage(Callback):
    """Store the exponential moving average of the weights instead of the last ones (Polyak and Juditsky, 1992).

    The average is updated after each optimizer step: ``average = d * average + (1 - d) * weights``. It starts at the
    initial weights. With ``warm_up``, ``d`` is ``min(decay, (1 + n) / (10 + n))`` at step n, so that short trainings
    leave their initial weights behind. Buffers, such as batch statistics, are the last ones.
    """

    decay: float = Field(0.999, gt=0, lt=1, description="Share of the average that stays at each optimizer step.")
    warm_up: bool = Field(True, description="Begin with a smaller decay.")

    def build(self) -> TrainingEvents:
        return _Average(self.decay, self.warm_up)


class _Average(TrainingEvents):
    def __init__(self, decay: float, warm_up: bool) -> None:
        self._decay = decay
        self._warm_up = warm_up
        self._average: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._stepped = False
        """Whether weights changed since they were last looked at."""

    def on_begin(self, view: TrainingView) -> None:
        for name, parameter in view.model.named_parameters():
            kept = self._average.get(name)
            copied = parameter.detach().clone() if kept is None else kept.to(parameter.device, copy=True)
            self._average[name] = copied

    def on_before_step(self, view: TrainingView) -> None:
        self._stepped = True

    def on_batch_end(self, view: TrainingView, loss: torch.Tensor) -> None:
        self._update(view)

    def on_epoch_end(self, view: TrainingView, loss: float) -> None:
        self._update(view)  # an epoch may end with a step for the batches that were left

    def on_end(self, view: TrainingView) -> None:
        for name, parameter in view.model.named_parameters():
            parameter.data.copy_(self._average[name])

    def state(self) -> dict[str, Any]:
        return {"average": dict(self._average), "steps": self._steps, "stepped": self._stepped}

    def resume(self, state: dict[str, Any]) -> None:
        self._average, self._steps, self._stepped = dict(state["average"]), state["steps"], state["stepped"]

    def _update(self, view: TrainingView) -> None:
        if not self._stepped:
            return
        self._stepped = False
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._warm_up else self._decay
        self._steps += 1
        for name, parameter in view.model.named_parameters():
            self._average[name].lerp_(parameter.detach(), 1 - decay)
