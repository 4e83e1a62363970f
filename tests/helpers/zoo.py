"""Inputs of built-in models."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def inputs_of(name: str, shape: Sequence[int], count: int) -> torch.Tensor | dict[str, torch.Tensor]:
    """Of a model by name: random numbers of a shape, or what the parser makes that the model is for.

    Text has 50 ids, and categories are called ``a.b`` and ``c``.
    """
    if name == "TextClassifier":
        mask = torch.tensor([[True] * 4 + [False] * 3] * count)
        return {"ids": torch.randint(1, 50, (count, 7)) * mask, "mask": mask}
    if name == "TabularMLP":
        ids = torch.arange(count)
        return {"numeric": torch.randn(count, 2), "a.b": ids, "c": ids}
    return torch.randn(count, *shape)
