"""A model for trying things out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    import torch


@MODELS.register("Dummy")
class Dummy(ModelPlugin):
    """A linear layer of two numbers to two outputs.

    >>> Dummy().build()(__import__("torch").zeros(3, 2)).shape
    torch.Size([3, 2])
    """

    ignored_keys: ClassVar[Mapping[str, str]] = {"num_classes": "Dummy has two outputs"}

    def build(self) -> torch.nn.Module:
        from modyn.models.modules.mlp import mlp

        return mlp(2, [], 2, "relu", 0.0)
