"""Parsers: payload columns of a batch of samples to model inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.registry import Plugin, Registry

Inputs = npt.NDArray[np.generic] | dict[str, npt.NDArray[np.generic]]
"""Model inputs of n samples: one array [n, …], or several by name."""


class Parser(Plugin, ABC):
    """Turns whole batches of payload columns into arrays; imports no torch."""

    def reads(self) -> tuple[str, ...]:
        """Names of the payload columns it needs; empty: all."""
        return ()

    @abstractmethod
    def parse(self, columns: Mapping[str, pa.Array]) -> Inputs:
        """Model inputs of one batch.

        Args:
            columns: payload columns by name, each of length n.

        Raises:
            InvalidInputError: a column is missing or of the wrong type.
        """


PARSERS: Registry[Parser] = Registry("parser", key="name", package="modyn.models.parsers", group="modyn.parsers")
