"""Selection policies: which samples to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.keysets import KeySet
from modyn.core.plugins.downsampling import DownsamplingStrategy
from modyn.core.plugins.proportion import Proportion
from modyn.core.registry import Plugin, Registry


@dataclass(frozen=True)
class TriggerData:
    """The new data of one trigger, in the order in which the pipeline saw it."""

    trigger_index: int
    keys: KeySet


class SampleColumns(Protocol):
    """Access to per-sample columns of the dataset."""

    def labels(self, keys: KeySet) -> pa.Array:
        """Labels in key-set order, [n], null where missing."""

    def timestamps(self, keys: KeySet) -> npt.NDArray[np.int64]:
        """Event times in key-set order, int64 [n], Unix seconds."""

    def values(self, keys: KeySet, column: str) -> npt.NDArray[np.float64]:
        """A column of numbers of the samples themselves in key-set order, float64 [n]; NaN where it is missing.

        This reads the samples, while the other columns are an index beside them.

        Raises:
            InvalidInputError: the samples have no such column of numbers.
        """


@dataclass(frozen=True)
class SelectionInput:
    """What a policy may look at.

    Attributes:
        history: new data of all triggers so far, oldest first; the last entry is the current trigger. Unlabelled
            and superseded samples are already left out.
        columns: labels and timestamps of any of these keys.
        seed: of the pipeline; draw only through ``modyn.core.randomness.generator(seed, purpose, trigger_index)``.
        selected: keys of the training sets of all triggers before this one, oldest first, whatever became of the
            samples since; read only as far as a policy looks.
    """

    history: Sequence[TriggerData]
    columns: SampleColumns
    seed: int
    selected: Sequence[KeySet] = ()

    @property
    def trigger_index(self) -> int:
        return self.history[-1].trigger_index


@dataclass(frozen=True, eq=False)
class Selection:
    """A training set: keys and, unless all are 1, weights (float32 [n])."""

    keys: KeySet
    weights: npt.NDArray[np.float32] | None = None


class SelectionPolicy(Plugin, ABC):
    """A selection policy: a pure function of what it is given."""

    @abstractmethod
    def select(self, data: SelectionInput) -> Selection:
        """The training set of the current trigger. No key twice unless the policy draws with replacement."""

    def downsampling(self, trigger_index: int) -> DownsamplingStrategy | None:
        """How the training job narrows the training set of a trigger further; None: not at all."""
        return None

    @property
    def downsamples(self) -> bool:
        """Whether training jobs narrow the training set of any trigger further."""
        return False


class PresamplingStrategy(Proportion, ABC):
    """First stage of a ``CoresetStrategy``: narrows the data at the selector, without a model."""

    over_triggers: ClassVar[bool] = False
    """It makes sense only where candidates come from several triggers."""

    @abstractmethod
    def select(self, data: SelectionInput, candidates: KeySet, target: int) -> Selection:
        """``target`` of the candidates (all of them if there are fewer).

        Args:
            data: with the history of only those triggers that the candidates come from.
            candidates: all keys of that history, in order.
        """


SELECTION_POLICIES: Registry[SelectionPolicy] = Registry(
    "selection policy",
    key="name",
    package="modyn.selector.policies",
    group="modyn.selection_policies",
)

PRESAMPLING_STRATEGIES: Registry[PresamplingStrategy] = Registry(
    "presampling strategy",
    key="strategy",
    package="modyn.selector.presampling",
    group="modyn.presampling_strategies",
)
