"""Multi-layer perceptron over numbers and categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    import torch


@MODELS.register("TabularMLP")
class TabularMLP(ModelPlugin):
    """Numbers beside a learned embedding of each categorical column, then fully connected layers; takes what the parser
    ``columns`` makes with ``categorical``.

    >>> import torch
    >>> inputs = {"numeric": torch.zeros(3, 2), "city": torch.tensor([0, 9, 9])}
    >>> TabularMLP(numeric=2, categorical={"city": 10}, num_classes=4).build()(inputs).shape
    torch.Size([3, 4])
    """

    numeric: NonNegativeInt = Field(0, description="Numbers per sample.")
    categorical: dict[str, PositiveInt] = Field(
        min_length=1, description="Categorical columns and their buckets, as data.parser.categorical has them."
    )
    dim: PositiveInt = Field(16, description="Width of each embedding.")
    hidden: list[PositiveInt] = Field([64], description="Width of each hidden layer; empty: a linear model.")
    num_classes: PositiveInt = Field(description="Outputs per sample.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Probability, after each hidden layer.")

    @model_validator(mode="after")
    def _check_names(self) -> TabularMLP:
        if "numeric" in self.categorical:
            raise ValueError("a categorical column cannot be called 'numeric', as the numbers are; rename it")
        return self

    def build(self) -> torch.nn.Module:
        from modyn.models.modules.mlp import mlp
        from modyn.models.modules.tabular_mlp import TabularNet

        width = self.numeric + self.dim * len(self.categorical)
        head = mlp(width, self.hidden, self.num_classes, "relu", self.dropout)
        return TabularNet(self.categorical, self.dim, head, has_numbers=self.numeric > 0)
