"""What a training must remember to go on as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from modyn.trainer_server.checkpoints import Checkpoints


class Resumable(Protocol):
    """A part of a training whose state goes into checkpoints."""

    def state(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dicts of them."""

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""


@dataclass(frozen=True)
class Position:
    """Where a training is: in which epoch, and how many batches of it are done."""

    epoch: int = 0
    batches: int = 0


class Weights:
    """A model's weights and buffers as a part of a training.

    Args:
        model: on its device.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def state(self) -> dict[str, Any]:
        """Of the model, by name; beside what is stored of it in the end, the buffers that are not."""
        stored = dict(self._model.state_dict())
        return {"stored": stored, "buffers": {n: b for n, b in self._model.named_buffers() if n not in stored}}

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self._model.load_state_dict(state["stored"])
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                if name in state["buffers"]:
                    buffer.copy_(state["buffers"][name])


class Generators:
    """The global generators that models, optimizers and user code draw from."""

    def state(self) -> dict[str, Any]:
        """Of Python, NumPy and torch."""
        version, internal, gauss = random.getstate()
        name, keys, pos, has_gauss, cached = np.random.get_state(legacy=True)
        state: dict[str, Any] = {
            "python": [version, list(internal), gauss],
            "numpy": [
                name,
                torch.from_numpy(np.asarray(keys).astype(np.int64)),
                int(pos),
                int(has_gauss),
                float(cached),
            ],
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, pos, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), pos, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])


def save(checkpoints: Checkpoints, parts: Mapping[str, Resumable], position: Position) -> None:
    """Saves all parts of a training."""
    states = {name: part.state() for name, part in parts.items()}
    checkpoints.save({"position": [position.epoch, position.batches], "parts": states})


def resume(checkpoints: Checkpoints, parts: Mapping[str, Resumable]) -> Position:
    """Puts all parts where the newest checkpoint has them; where there is none, nothing changes."""
    state = checkpoints.load()
    if state is None:
        return Position()
    for name, part in parts.items():
        part.resume(state["parts"][name])
    epoch, batches = state["position"]
    return Position(epoch, batches)
