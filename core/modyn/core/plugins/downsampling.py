"""Downsampling: narrowing a training set in the training job, with what the model makes of the samples.

A strategy is NumPy only and a pure function of what it is told: the job runs the model and hands over the columns that
the strategy asks for. What it chooses are positions among the candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator

from modyn.core.arrow import Int64Array
from modyn.core.plugins.proportion import Proportion
from modyn.core.registry import Registry

Float32Array = npt.NDArray[np.float32]


class Score(StrEnum):
    """What a strategy may ask of the model about each sample; see :class:`Candidates`."""

    LOSS = "loss"
    PROBABILITIES = "probabilities"
    GRADIENTS = "gradients"
    EMBEDDINGS = "embeddings"
    IRREDUCIBLE_LOSS = "irreducible_loss"


@dataclass(frozen=True, eq=False)
class Candidates:
    """n labelled samples as the model sees them, in evaluation mode; what a strategy did not ask for is None.

    Attributes:
        classes: which of the samples have the same label, int64 [n]: any number for each label. Labels that are no
            whole numbers make no classes: all samples are of one.
        loss: of each sample, float32 [n]; finite.
        probabilities: of each class, float32 [n, classes]; for models with one output [n, 2]: 1 - p and p.
        gradients: of a sample's own loss with respect to the model's outputs, float32 [n, outputs]; never divided by
            a batch size.
        embeddings: what the last linear layer gets, float32 [n, d].
        irreducible_loss: of each sample under a model that was not trained on it, float32 [n].
    """

    classes: Int64Array
    loss: Float32Array | None = None
    probabilities: Float32Array | None = None
    gradients: Float32Array | None = None
    embeddings: Float32Array | None = None
    irreducible_loss: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, eq=False)
class Choice:
    """Some of n candidates.

    Attributes:
        positions: ascending, int64 [k], 0 <= position < n; none twice.
        weights: float32 [k], by which their losses are multiplied; None: all 1. Where a strategy weighs so that
            the chosen stand for all candidates, the weights are 1 on average; those of a :class:`PruningStrategy`
            add up to n, as an epoch then has fewer steps.
    """

    positions: Int64Array
    weights: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.positions)


class DownsamplingStrategy(Proportion, ABC):
    """Second stage of a ``CoresetStrategy``: narrows the training set in the training job.

    A strategy derives from one of the four kinds below, which say when it is asked and what it is told.
    """

    @property
    def reused(self) -> tuple[Score, ...]:
        """Which scores are kept for later triggers."""
        return ()

    @property
    def carries_models(self) -> bool:
        """Whether auxiliary models of a trigger are needed at the next one."""
        return False


class NoDownsampling(DownsamplingStrategy):
    """Trains on the whole training set, in every epoch."""


class ScoringStrategy(DownsamplingStrategy):
    """Chooses by scores of the current model.

    Either all samples of the training set are scored, and the chosen ones trained in batches (sample-then-batch),
    or each batch is scored, and full batches are made of what was chosen from several (batch-then-sample).
    """

    sample_then_batch: bool = Field(
        False,
        description="Score the whole training set and choose from it (true), or score each batch and choose from it.",
    )
    period: NonNegativeInt = Field(
        1,
        description="With sample_then_batch: score again every so many epochs; 0: once at each trigger.",
    )
    reuse_scores: bool = Field(
        False,
        validate_default=True,
        description="Samples that were scored at an earlier trigger keep that score, and only the others are scored; "
        "with sample_then_batch: true and period: 0.",
    )

    @field_validator("reuse_scores")
    @classmethod
    def _check_reuse(cls, reuse: bool, info: ValidationInfo) -> bool:
        if (
            reuse
            and cls.reuse_needs_one_scoring
            and not (info.data.get("sample_then_batch", True) and info.data.get("period", 0) == 0)
        ):
            raise ValueError("true needs sample_then_batch: true and period: 0, or samples would be scored anyway")
        return reuse

    reuse_needs_one_scoring: ClassVar[bool] = True
    """Whether scores can be reused only if they are computed once at each trigger."""

    @property
    def reused(self) -> tuple[Score, ...]:
        return self.needs if self.reuse_scores else ()

    @property
    @abstractmethod
    def needs(self) -> tuple[Score, ...]:
        """What :meth:`choose` looks at."""

    @abstractmethod
    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        """``size`` of the candidates, 0 <= size <= n; exactly that many.

        Raises:
            InvalidInputError: the scores cannot be used.
        """


class IndexStrategy(DownsamplingStrategy):
    """Chooses anew in each epoch, without looking at samples or models."""

    @abstractmethod
    def choose(self, num_samples: int, epoch: int, random: Callable[[int], np.random.Generator]) -> Choice:
        """What to train on in an epoch; the same whenever it is asked.

        Args:
            num_samples: in the training set.
            epoch: 0, 1, 2 …
            random: a fresh generator for each number; the same one for the same number.
        """


class PruningStrategy(DownsamplingStrategy):
    """Leaves out samples by the losses that training on them gave; nothing is scored for it."""

    reuse_scores: bool = Field(False, description="Begin with the losses that the training of the trigger before gave.")

    @property
    def reused(self) -> tuple[Score, ...]:
        return (Score.LOSS,) if self.reuse_scores else ()

    @abstractmethod
    def prune(self, losses: Float32Array, epoch: int, epochs: int, random: np.random.Generator) -> Choice:
        """What to train on in an epoch.

        Args:
            losses: the last one known of each sample of the training set, float32 [n]; NaN: none yet.
            epoch: 0, 1, 2 …
            epochs: how many there will be.
            random: of this epoch.
        """


class PassesStrategy(DownsamplingStrategy):
    """Trains on all samples, for ``ratio/ratio_max`` of the epochs, rounded up to whole batches."""


DOWNSAMPLING_STRATEGIES: Registry[DownsamplingStrategy] = Registry(
    "downsampling strategy",
    key="strategy",
    package="modyn.trainer_server.downsampling",
    group="modyn.downsampling_strategies",
)
