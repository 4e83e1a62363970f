"""One batch of tensors, and what can be made of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modyn.core.arrow import Int64Array

Inputs = torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """n labelled samples, decoded, on the CPU.

    Attributes:
        keys: int64 [n].
        inputs: tensor [n, …], or several by name.
        labels: [n] or [n, k].
        weights: float32 [n]; None: all 1.
        places: positions of the samples in the training set, int64 [n]; None if nobody asked for them.
    """

    keys: Int64Array
    inputs: Inputs
    labels: torch.Tensor
    weights: torch.Tensor | None
    places: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Int64Array | slice) -> Batch:
        """Some of the samples."""
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        inputs = self.inputs
        return Batch(
            self.keys[rows],
            {name: tensor[index] for name, tensor in inputs.items()} if isinstance(inputs, dict) else inputs[index],
            self.labels[index],
            None if self.weights is None else self.weights[index],
            None if self.places is None else self.places[rows],
        )

    def weighted(self, factors: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None) -> Batch:
        """The same with weights multiplied by these, float32 [n]; None: as it is."""
        if factors is None:
            return self
        weights = torch.from_numpy(np.require(factors, dtype=np.float32, requirements=["C", "W"]))
        weights = weights if self.weights is None else self.weights * weights
        return Batch(self.keys, self.inputs, self.labels, weights, self.places)

    @staticmethod
    def join(parts: Sequence[Batch]) -> Batch:
        """All of some batches, one after the other."""
        if len(parts) == 1:
            return parts[0]
        weights = None
        if any(part.weights is not None for part in parts):
            weights = torch.cat([torch.ones(len(p)) if p.weights is None else p.weights for p in parts])
        places = [part.places for part in parts if part.places is not None]
        return Batch(
            np.concatenate([part.keys for part in parts]),
            _join([part.inputs for part in parts]),
            torch.cat([part.labels for part in parts]),
            weights,
            np.concatenate(places) if len(places) == len(parts) else None,
        )


def _join(parts: Sequence[Inputs]) -> Inputs:
    first = parts[0]
    if isinstance(first, dict):
        return {name: torch.cat([part[name] for part in parts if isinstance(part, dict)]) for name in first}
    return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
