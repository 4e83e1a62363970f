"""Mean of token embeddings, then fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modyn.models.modules.mlp import mlp


class TextClassifierNet(nn.Module):
    """Bags of tokens: ``ids`` int64 [n, length] and ``mask`` bool [n, length] -> [n, num_classes].

    A text without tokens has the embedding 0.
    """

    def __init__(self, vocabulary_size: int, dim: int, hidden: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim)
        self.head = mlp(dim, hidden, num_classes, "relu", dropout)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["mask"].unsqueeze(2)
        tokens = self.embedding(inputs["ids"]) * mask
        return self.head(tokens.sum(dim=1) / mask.sum(dim=1).clamp(min=1))  # type: ignore[no-any-return]
