"""More outputs for a model: new classes, with what it knows of the old ones kept bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modyn.core.errors import InvalidInputError

METHOD = "grow_outputs"
"""By this a model widens its outputs itself: called with the number of outputs that it is to have."""

Widened = nn.Linear | nn.Conv2d

_KEY = "training.new_classes: grow"
_REMEDY = (
    f"give the model a method {METHOD}(n) that widens its outputs to n, set its number of classes (model.config), or "
    "set training.new_classes: error"
)


def num_outputs(module: nn.Module) -> int | None:
    """How many outputs a model seems to have: those of the last layer that could be widened; None: there is none.

    >>> num_outputs(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)))
    2
    """
    layers = [layer for _, layer in _layers(module)]
    return len(layers[-1].weight) if layers else None


def grow(module: nn.Module, count: int, inputs: Any) -> None:
    """Gives a model more outputs: rows of the layer that makes them are added, the others stay as they are.

    That layer is the last ``torch.nn.Linear`` or 1x1 convolution of a forward pass that has as many outputs as the
    model. New rows are initialised as torch does it, from its global generator.

    Args:
        module: on the CPU; changed in place.
        count: outputs that it is to have.
        inputs: of at least one sample, for one forward pass without gradients, in evaluation mode.

    Raises:
        InvalidInputError: it is not known which layer makes the outputs, or widening it did not widen them.
    """
    before = _outputs(module, inputs)
    if before >= count:
        return
    if callable(getattr(module, METHOD, None)):
        getattr(module, METHOD)(count)
    else:
        name, layer = _output_layer(module, inputs, before)
        _check_own(module, name, layer)
        _widen(layer, count)
    if (after := _outputs(module, inputs)) != count:
        raise InvalidInputError(f"{_KEY}: the model has {after} outputs after it was widened to {count}; {_REMEDY}")


def fit_outputs(module: nn.Module, stored: Mapping[str, torch.Tensor]) -> None:
    """Widens a model as far as one was that stored weights come from; where they differ otherwise, nothing is done.

    Args:
        module: as it is built from its configuration; changed in place.
        stored: weights by name.
    """
    own = module.state_dict()
    different = {name for name, tensor in own.items() if name in stored and stored[name].shape != tensor.shape}
    rows = {len(stored[name]) for name in different if _is_longer(stored[name], own[name])}
    if len(rows) != 1 or not all(_is_longer(stored[name], own[name]) for name in different):
        return
    if callable(getattr(module, METHOD, None)):
        getattr(module, METHOD)(rows.pop())
        return
    for name, layer in _layers(module):
        if different == {f"{name}.{part}".lstrip(".") for part in _parameters_of(layer)}:
            _widen(layer, rows.pop())
            return


def _is_longer(stored: torch.Tensor, own: torch.Tensor) -> bool:
    return stored.ndim > 0 and stored.shape[1:] == own.shape[1:] and len(stored) > len(own)


def _layers(module: nn.Module) -> list[tuple[str, Widened]]:
    """Layers whose outputs do not depend on how many there are, by name, as the model holds them."""
    found: list[tuple[str, Widened]] = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) or (
            isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
        ):
            found.append((name, layer))
    return found


def _parameters_of(layer: Widened) -> list[str]:
    return ["weight"] if layer.bias is None else ["weight", "bias"]


def _widen(layer: Widened, count: int) -> None:
    """In place: whoever holds the layer keeps it, but its parameters are new ones."""
    old = layer.weight
    options: dict[str, Any] = {"bias": layer.bias is not None, "device": old.device, "dtype": old.dtype}
    fresh: Widened
    if isinstance(layer, nn.Linear):
        fresh = nn.Linear(layer.in_features, count, **options)
        layer.out_features = count
    else:
        fresh = nn.Conv2d(layer.in_channels, count, 1, **options)
        layer.out_channels = count
    with torch.no_grad():
        for name in _parameters_of(layer):
            kept, added = getattr(layer, name), getattr(fresh, name)
            both = torch.cat([kept, added[len(kept) :]])
            setattr(layer, name, nn.Parameter(both, requires_grad=kept.requires_grad))


def _outputs(module: nn.Module, inputs: Any) -> int:
    """How many outputs the model has for each sample."""
    with _evaluating(module):
        outputs = module(inputs)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2:
        shape = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InvalidInputError(
            f"{_KEY}: the model returned {shape}; expected scores of classes, [n, classes]; {_REMEDY}"
        )
    return outputs.shape[1]


def _output_layer(module: nn.Module, inputs: Any, width: int) -> tuple[str, Widened]:
    called: list[tuple[str, Widened]] = []
    candidates = [(name, layer) for name, layer in _layers(module) if len(layer.weight) == width]
    handles = [
        layer.register_forward_hook(lambda *_, entry=(name, layer): called.append(entry)) for name, layer in candidates
    ]
    try:
        with _evaluating(module):
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise InvalidInputError(
            f"{_KEY}: no torch.nn.Linear or 1x1 convolution of the model has its {width} outputs, so it is not known "
            f"which layer to widen; {_REMEDY}"
        )
    return called[-1]


def _check_own(module: nn.Module, name: str, layer: Widened) -> None:
    """
    Raises:
        InvalidInputError: another layer shares the parameters.
    """
    own = {id(getattr(layer, part)) for part in _parameters_of(layer)}
    path = f"{name}." if name else ""
    for other, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in own and not other.startswith(path):
            raise InvalidInputError(f"{_KEY}: layer {name!r} shares its weights with {other!r}; {_REMEDY}")


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was in training.items():
            part.training = was
