"""Parsers: payload columns of a batch of samples to model inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.draws import Draws
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

    def parse_augmented(self, columns: Mapping[str, pa.Array], draws: Draws) -> Inputs:
        """Model inputs of one batch of a training, where the parser changes samples at random (augmentation).

        Like :meth:`parse` unless a parser says otherwise. Whatever is random comes from ``draws``, so that it depends
        on the sample and the epoch and not on which batch or process the sample is parsed in.

        Args:
            columns: payload columns by name, each of length n.
            draws: random numbers for the n samples.

        Raises:
            InvalidInputError: a column is missing or of the wrong type.
        """
        return self.parse(columns)

    @property
    def augments(self) -> bool:
        """Whether :meth:`parse_augmented` may give other inputs than :meth:`parse`; if not, inputs may be kept for
        later epochs."""
        return type(self).parse_augmented is not Parser.parse_augmented

    @property
    def separable(self) -> bool:
        """Whether the inputs of a sample depend on that sample alone, so that many batches can be parsed at once,
        in a thread, and cut apart afterwards. A parser that says so pads to no common width and keeps no state."""
        return False


PARSERS: Registry[Parser] = Registry("parser", key="name", package="modyn.models.parsers", group="modyn.parsers")
