"""Weights that torchvision has downloaded before; nothing is downloaded here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from modyn.core.errors import NotAvailableError


def load_pretrained(module: nn.Module, architecture: str) -> None:
    """Loads torchvision's default weights; the last layer keeps its random ones if it has other classes.

    Args:
        module: a network with torchvision's parameter names and a last layer ``fc``.
        architecture: such as ``ResNet18``.

    Raises:
        NotAvailableError: torchvision or the weight file is not on this machine.
    """
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        raise NotAvailableError(
            "model.config.use_pretrained needs torchvision, which is not installed; install it or leave it out"
        ) from error
    url = getattr(models, f"{architecture}_Weights").DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise NotAvailableError(
            f"model.config.use_pretrained: the weight file {path} is not there; download {url} to it once"
        )
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    own = module.state_dict()
    for name in ("fc.weight", "fc.bias"):
        if tensors[name].shape != own[name].shape:
            tensors[name] = own[name]
    module.load_state_dict(tensors)
