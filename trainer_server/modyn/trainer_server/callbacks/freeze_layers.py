"""Layers that are not trained at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from modyn.core.config.problems import nearest
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.callbacks import CALLBACKS, Callback, TrainingEvents, TrainingView

if TYPE_CHECKING:
    import torch
    from torch import nn


@CALLBACKS.register("FreezeLayers")
class FreezeLayers(Callback):
    """Keep the weights of some modules as they are, for the first epochs or throughout.

    Frozen modules are in evaluation mode: their dropout is off and their batch statistics stay. No gradients are
    computed for them, which makes the backward pass shorter.
    """

    modules: list[str] = Field(min_length=1, description="Attribute paths, such as model.layer1 or body.0.")
    epochs: PositiveInt | None = Field(None, description="How many epochs; null: the whole training.")

    def build(self) -> TrainingEvents:
        return _Freezer(self.modules, self.epochs)


class _Freezer(TrainingEvents):
    def __init__(self, paths: list[str], epochs: int | None) -> None:
        self._paths = paths
        self._epochs = epochs
        self._frozen: list[tuple[nn.Module, list[torch.nn.Parameter]]] = []

    def on_begin(self, view: TrainingView) -> None:
        modules = [_module(view.model, path) for path in self._paths]
        if self._epochs is not None and view.epoch >= self._epochs:
            return
        for module in modules:
            parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
            module.eval()
            module.requires_grad_(False)
            for parameter in parameters:
                parameter.grad = None
            self._frozen.append((module, parameters))
        if not any(parameter.requires_grad for parameter in view.model.parameters()):
            raise InvalidInputError(
                f"training.callbacks: FreezeLayers.modules: {', '.join(self._paths)} are all that the model trains; "
                "leave some of it to be trained"
            )

    def on_epoch_end(self, view: TrainingView, loss: float) -> None:
        if self._epochs is not None and view.epoch + 1 >= self._epochs:
            self._release()

    def on_end(self, view: TrainingView) -> None:
        self._release()

    def _release(self) -> None:
        for module, parameters in self._frozen:
            module.train()
            for parameter in parameters:
                parameter.requires_grad_(True)
        self._frozen.clear()


def _module(model: nn.Module, path: str) -> nn.Module:
    """A module named as ``model.fc`` or ``fc``."""
    for candidate in (path.removeprefix("model."), path):
        try:
            return model.get_submodule(candidate)
        except AttributeError:
            continue
    names = [name for name, _ in model.named_modules() if name]
    raise InvalidInputError(
        f"training.callbacks: FreezeLayers.modules: the model has no module {path!r}"
        f"{nearest(path.removeprefix('model.'), names)}; expected a path that starts with one of "
        f"{', '.join(name for name, _ in model.named_children())}"
    )
