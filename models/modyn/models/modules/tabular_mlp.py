"""Numbers beside embedded categories."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class TabularNet(nn.Module):
    """``numeric`` float32 [n, k] and int64 [n] for each categorical column, by name -> what the head makes of them.

    Args:
        categorical: buckets of each categorical column.
        dim: width of each embedding.
        has_numbers: whether there is ``numeric``.
        head: gets [n, k + dim * columns].
    """

    def __init__(self, categorical: Mapping[str, int], dim: int, head: nn.Module, *, has_numbers: bool) -> None:
        super().__init__()
        self._has_numbers = has_numbers
        self._names = list(categorical)  # not the names of the modules: those could not have dots
        self.embeddings = nn.ModuleList(nn.Embedding(buckets, dim) for buckets in categorical.values())
        self.head = head

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = [inputs["numeric"]] if self._has_numbers else []
        parts += [table(inputs[name]) for name, table in zip(self._names, self.embeddings, strict=True)]
        return self.head(torch.cat(parts, dim=1))  # type: ignore[no-any-return]
