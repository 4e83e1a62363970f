"""Which layer a forward pass failed in, what it expects and what it got.

Nothing is watched while things go well: only a pass that failed is run once more, with hooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from modyn.core.errors import InvalidInputError
from modyn.models.usercode import describe_error

MAX_PARAMETERS_SHOWN = 3

_REMEDY = "check the parser's output shape and model.config"


def described(value: Any) -> str:
    """Type and shape of tensors, by name where they have names.

    >>> described({"ids": torch.zeros(2, 3, dtype=torch.int64), "mask": torch.ones(2, 3)})
    'ids: int64 [2, 3], mask: float32 [2, 3]'
    """
    if isinstance(value, torch.Tensor):
        return f"{_dtype(value)} {list(value.shape)}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {described(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(described(part) for part in value)
    return f"a {type(value).__name__}"


def misfit(model: nn.Module, inputs: Any, error: Exception) -> InvalidInputError:
    """The error to raise for a forward pass that failed.

    Args:
        model: as it is, neither compiled nor wrapped.
        inputs: what it was called with; its forward pass is run once more on them.
        error: what it raised.
    """
    layer = failed_layer(model, inputs)
    reason = describe_error(error) if layer is None else f"{layer}; {describe_error(error)}"
    return InvalidInputError(f"the model cannot process its inputs ({described(inputs)}): {reason}; {_REMEDY}")


def failed_layer(model: nn.Module, inputs: Any) -> str | None:
    """Runs a failing forward pass again and says in which layer it fails.

    Returns:
        Such as ``layer 'fc1' (Linear) expects inputs of 784 features, got float32 [64, 28, 28]``; None if the pass does
        not fail again, or fails outside of any layer.
    """
    entered: list[tuple[nn.Module, Any]] = []
    with _watched(model, entered), suppress(Exception):  # it is known already; here only its place is looked for
        model(inputs)
        return None
    if not entered or (entered[-1][0] is model and next(model.children(), None) is not None):
        return None
    layer, got = entered[-1]
    name = next(name for name, module in model.named_modules() if module is layer)
    where = f"layer {name!r} ({type(layer).__name__})" if name else f"the model ({type(layer).__name__})"
    return f"{where} expects {_expected(layer)}, got {_got(layer, got)}"


@contextmanager
def _watched(model: nn.Module, entered: list[tuple[nn.Module, Any]]) -> Iterator[None]:
    """Within the block, ``entered`` holds the layers whose forward pass has begun and not ended, with their inputs."""

    def enter(layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        entered.append((layer, arguments if len(arguments) != 1 or named else arguments[0]))

    def leave(layer: nn.Module, arguments: Any, output: Any) -> None:
        del entered[next(i for i in reversed(range(len(entered))) if entered[i][0] is layer) :]

    handles: list[Any] = []
    for layer in model.modules():
        handles += [layer.register_forward_pre_hook(enter, with_kwargs=True), layer.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _expected(layer: nn.Module) -> str:
    match layer:
        case nn.Linear():
            what = f"inputs of {layer.in_features:,} features"
        case nn.modules.conv._ConvNd():
            dimensions = len(layer.kernel_size)
            what = (
                f"inputs [n, {layer.in_channels}, …] with {layer.in_channels:,} channels in {dimensions + 2} dimensions"
            )
        case nn.modules.batchnorm._NormBase():
            what = f"inputs [n, {layer.num_features}, …] with {layer.num_features:,} channels"
        case nn.GroupNorm():
            what = f"inputs [n, {layer.num_channels}, …] with {layer.num_channels:,} channels"
        case nn.LayerNorm():
            what = f"inputs whose last dimensions are {list(layer.normalized_shape)}"
        case nn.Embedding() | nn.EmbeddingBag():
            return f"integer indices from 0 to {layer.num_embeddings - 1:,}"
        case nn.RNNBase():
            what = f"inputs of {layer.input_size:,} features"
        case _:
            return _parameters(layer)
    dtype = next((_dtype(parameter) for parameter in layer.parameters(recurse=False)), None)
    return what if dtype in (None, "float32") else f"{what} as {dtype}"


def _parameters(layer: nn.Module) -> str:
    """What can be said of any layer: the shapes of its parameters."""
    shapes = [f"{name} {list(parameter.shape)}" for name, parameter in layer.named_parameters()]
    if not shapes:
        return "other inputs"
    more = len(shapes) - MAX_PARAMETERS_SHOWN
    tail = f" and {more} more" if more > 0 else ""
    return f"inputs for its parameters {', '.join(shapes[:MAX_PARAMETERS_SHOWN])}{tail}"


def _got(layer: nn.Module, value: Any) -> str:
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and isinstance(value, torch.Tensor) and value.numel():
        return f"{described(value)} with values from {value.min().item():g} to {value.max().item():g}"
    return described(value)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
