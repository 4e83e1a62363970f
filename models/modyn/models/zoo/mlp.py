"""Multi-layer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    import torch


@MODELS.register("MLP")
class MLP(ModelPlugin):
    """Fully connected layers over one vector per sample; inputs of more dimensions are flattened.

    >>> MLP(in_features=40, hidden=[128], num_classes=2).build()(__import__("torch").zeros(3, 40)).shape
    torch.Size([3, 2])
    """

    in_features: PositiveInt = Field(description="Numbers per sample.")
    hidden: list[PositiveInt] = Field([128], description="Width of each hidden layer; empty: a linear model.")
    num_classes: PositiveInt = Field(description="Outputs per sample.")
    activation: Literal["relu", "gelu", "tanh", "silu"] = Field("relu", description="Between the layers.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Probability, after each hidden layer.")

    def build(self) -> torch.nn.Module:
        from modyn.models.modules.mlp import mlp

        return mlp(self.in_features, self.hidden, self.num_classes, self.activation, self.dropout)
