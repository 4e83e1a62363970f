"""The model zoo: models by id, their ``config`` checked without importing torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from modyn.core.registry import Plugin, Registry

if TYPE_CHECKING:
    import torch


class ModelPlugin(Plugin, ABC):
    """A model architecture; its fields are the keys of ``model.config``."""

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """A freshly initialised module; random initial weights come from torch's global generator, which the
        training job has seeded. Imports torch inside this method only."""


MODELS: Registry[ModelPlugin] = Registry(
    "model",
    key="id",
    package="modyn.models.zoo",
    group="modyn.models",
    planned=("ArticleNet", "DLRM", "FmowNet"),
)
