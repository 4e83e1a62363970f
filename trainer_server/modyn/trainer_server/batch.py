"""One batch of tensors, and what can be made of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from modyn.core.arrow import Int64Array

Inputs = torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """n labelled samples, decoded.

    Attributes:
        keys: int64 [n].
        inputs: tensor [n, …], or several by name; on the CPU, or already on the device of the training.
        labels: [n] or [n, k], on the CPU.
        weights: float32 [n], on the CPU; None: all 1.
        places: positions of the samples in the training set, int64 [n]; None if nobody asked for them.
        label_range: no label, all of which are integers, is below the first or above the second; None: not known.
        of: samples in the batch of all processes together, of which this is one's share; by default n.
        padding: this process had no share: the one sample is there only so that it takes part, and has weight 0.
    """

    keys: Int64Array
    inputs: Inputs
    labels: torch.Tensor
    weights: torch.Tensor | None
    places: Int64Array | None = None
    label_range: tuple[int, int] | None = None
    of: int = -1
    padding: bool = False

    def __post_init__(self) -> None:
        if self.of < 0:
            object.__setattr__(self, "of", len(self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of inputs, labels and keys."""
        tensors = self.inputs.values() if isinstance(self.inputs, dict) else (self.inputs,)
        return int(sum(tensor.nbytes for tensor in (*tensors, self.labels))) + self.keys.nbytes

    def take(self, rows: Int64Array | slice) -> Batch:
        """Some of the samples."""
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        inputs = self.inputs
        return Batch(
            self.keys[rows],
            {name: _at(part, index) for name, part in inputs.items()}
            if isinstance(inputs, dict)
            else _at(inputs, index),
            _at(self.labels, index),
            None if self.weights is None else _at(self.weights, index),
            None if self.places is None else self.places[rows],
            self.label_range,
        )

    def clone(self) -> Batch:
        """The same in tensors of its own, but for the weights."""
        inputs = self.inputs
        cloned = {name: part.clone() for name, part in inputs.items()} if isinstance(inputs, dict) else inputs.clone()
        return replace(self, inputs=cloned, labels=self.labels.clone())

    def share(self, rows: slice) -> Batch:
        """What one of several processes trains of it.

        Args:
            rows: of that process; where there are none, it gets padding.
        """
        if rows.start < rows.stop:
            return replace(self.take(rows), of=len(self))
        start = min(rows.start, len(self) - 1)
        return self.take(slice(start, start + 1)).as_padding(len(self))

    def as_padding(self, of: int) -> Batch:
        """The same as padding in a batch of so many samples of other processes."""
        return replace(self, weights=torch.zeros(len(self)), of=of, padding=True)

    def weighted(self, factors: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None) -> Batch:
        """The same with weights multiplied by these, float32 [n]; None: as it is."""
        if factors is None:
            return self
        weights = torch.from_numpy(np.require(factors, dtype=np.float32, requirements=["C", "W"]))
        weights = weights if self.weights is None else self.weights * weights
        return replace(self, weights=weights)

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
            _around([part.label_range for part in parts]),
        )


def _around(ranges: Sequence[tuple[int, int] | None]) -> tuple[int, int] | None:
    known = [one for one in ranges if one is not None]
    if len(known) < len(ranges):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _at(tensor: torch.Tensor, index: torch.Tensor | slice) -> torch.Tensor:
    if isinstance(index, slice) or tensor.is_cuda:
        return tensor[index]
    return tensor.index_select(0, index)  # several times as fast


def _join(parts: Sequence[Inputs]) -> Inputs:
    first = parts[0]
    if isinstance(first, dict):
        return {name: torch.cat([part[name] for part in parts if isinstance(part, dict)]) for name in first}
    return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
