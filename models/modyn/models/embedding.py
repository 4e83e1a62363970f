"""Embeddings: what the last linear layer of a model gets as input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modyn.core.errors import InvalidInputError

ATTRIBUTE = "embedding_layer"
"""By this a model names the layer itself: its path (``body.fc``), or a method that returns the path or the layer."""


class EmbeddingTap:
    """Catches the embeddings of a model in its forward passes.

    By default those are the inputs of the last ``torch.nn.Linear``, in the order in which the model holds its layers,
    that takes part in the forward pass.

    >>> model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> tap = EmbeddingTap(model, "tiny")
    >>> with torch.inference_mode(), tap.catching():
    ...     scores = model(torch.ones(5, 3))
    >>> torch.equal(tap.embeddings(5), torch.relu(model[0](torch.ones(5, 3))))
    True

    Args:
        model: the module.
        name: of the model, for messages.

    Raises:
        InvalidInputError: the model has no linear layer, or names one that it does not have.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self._name = name
        named = getattr(model, ATTRIBUTE, None)
        self._layers = _linear_layers(model) if named is None else [_named_layer(model, name, named)]
        if not self._layers:
            raise InvalidInputError(
                f"model {name!r} has no torch.nn.Linear layer, so it is not known what its embeddings are; give the "
                f"model an attribute {ATTRIBUTE} that names the layer whose input they are"
            )
        self._index = -1
        self._caught: torch.Tensor | None = None

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Within the block, each forward pass leaves its embeddings for :meth:`embeddings`."""
        handles = [
            layer.register_forward_pre_hook(self._hook(index), with_kwargs=True)
            for index, layer in enumerate(self._layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def embeddings(self, count: int) -> torch.Tensor:
        """Those of the last forward pass, float32 [count, d]; they are handed over once.

        Args:
            count: samples that it was about.

        Raises:
            InvalidInputError: the layer took no part in it, or its input has no row for each sample.
        """
        caught, self._caught, self._index = self._caught, None, -1
        if caught is None:
            raise InvalidInputError(
                f"no linear layer of model {self._name!r} took part in its forward pass; name the layer whose input "
                f"its embeddings are by an attribute {ATTRIBUTE} of the model"
            )
        if caught.ndim < 2 or len(caught) != count:
            raise InvalidInputError(
                f"the last linear layer of model {self._name!r} gets an input of shape {list(caught.shape)} for "
                f"{count} samples; expected [{count}, …]; name another layer by an attribute {ATTRIBUTE} of the model"
            )
        return caught.flatten(1).to(torch.float32)

    def _hook(self, index: int) -> Any:
        def catch(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            inputs = arguments[0] if arguments else next(iter(named.values()), None)
            if index >= self._index and isinstance(inputs, torch.Tensor):
                # A copy: layers behind it may work in place.
                self._index, self._caught = index, inputs.detach().clone()

        return catch


def _linear_layers(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


def _named_layer(model: nn.Module, name: str, named: Any) -> nn.Module:
    layer = named() if callable(named) and not isinstance(named, nn.Module) else named
    if isinstance(layer, str):
        try:
            layer = model.get_submodule(layer)
        except AttributeError as error:
            raise InvalidInputError(f"model {name!r}: {ATTRIBUTE} {named!r}: {error}") from None
    if not isinstance(layer, nn.Module):
        raise InvalidInputError(
            f"model {name!r}: {ATTRIBUTE} is a {type(layer).__name__}; expected a layer of the model or its path"
        )
    return layer
