"""RHO-loss: what is learnable, worth learning and not learnt yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from modyn.core.config.pipeline import ModelSection, TrainingSection, checked_model_config, checked_model_id
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice, Score, ScoringStrategy


class IrreducibleLossTraining(TrainingSection):
    """How to train the model that gives irreducible losses; what is left out has the defaults of ``training``."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        **TrainingSection.ignored_keys,
        **dict.fromkeys(("device", "gpus", "threads", "seed"), "it is that of the pipeline's training"),
        **dict.fromkeys(
            ("num_samples_to_pass", "initial_model", "initial_model_id"),
            "the model is trained for epochs_per_trigger, from random weights or those of the trigger before",
        ),
        **dict.fromkeys(
            ("step", "callbacks", "early_stopping"),
            "the model is trained by its criterion on all that is held out for it",
        ),
        "checkpointing": "the model is trained as a part of the pipeline's training",
    }

    il_model_id: str = Field(min_length=1, description="The model: an id of the zoo, or module:attribute.")
    il_model_config: dict[str, Any] = Field({}, validate_default=True, description="Keyword arguments of the model.")

    @field_validator("il_model_id")
    @classmethod
    def _check_model(cls, model: str) -> str:
        return checked_model_id(model)

    @field_validator("il_model_config", mode="before")
    @classmethod
    def _check_config(cls, config: Any, info: ValidationInfo) -> Any:
        return checked_model_config(info.data.get("il_model_id", ":"), config, info.context)

    @property
    def model(self) -> ModelSection:
        """The model, as a section of its own."""
        return ModelSection(id=self.il_model_id, config=self.il_model_config)


@DOWNSAMPLING_STRATEGIES.register("RHOLoss")
class RHOLoss(ScoringStrategy):
    """Train on the samples whose loss is furthest above their irreducible loss (Mindermann et al., ICML 2022).

    The irreducible loss of a sample is that of another model that was not trained on it. With ``Simple`` a part of
    the samples, the same at every trigger, is held out to train that model and is never trained on otherwise; with
    ``Twin`` two models are trained, each on one half, and each is asked about the other half.

    >>> candidates = Candidates(
    ...     classes=np.zeros(3, int), loss=np.array([2.0, 3.0, 1.0]), irreducible_loss=np.array([0.1, 2.9, 0.2])
    ... )
    >>> il = {"il_model_id": "MLP", "il_model_config": {"in_features": 2, "num_classes": 2}}
    >>> rho = RHOLoss(ratio=30, holdout_set_strategy="Simple", holdout_set_ratio=20, il_training_config=il)
    >>> rho.choose(candidates, 2, np.random.default_rng()).positions.tolist()
    [0, 2]
    """

    reuse_needs_one_scoring: ClassVar[bool] = False

    holdout_set_strategy: Literal["Simple", "Twin"] = Field(
        description="Simple: one model, trained on samples that are held out. Twin: two models, each trained on a half."
    )
    holdout_set_ratio_max: PositiveInt = Field(100, description="What holdout_set_ratio is a part of; 100: per cent.")
    holdout_set_ratio: PositiveInt = Field(description="Share that is held out, in parts of holdout_set_ratio_max.")
    il_training_config: IrreducibleLossTraining = Field(
        description="The model that gives irreducible losses, and how it is trained."
    )
    reuse_scores: bool = Field(
        False,
        description="Irreducible losses that were computed at an earlier trigger serve again; a model is trained only "
        "where samples have none.",
    )

    @field_validator("holdout_set_ratio")
    @classmethod
    def _check_holdout(cls, ratio: int, info: ValidationInfo) -> int:
        ratio_max, strategy = info.data.get("holdout_set_ratio_max"), info.data.get("holdout_set_strategy")
        if ratio_max is not None and strategy == "Twin" and 2 * ratio != ratio_max:
            raise ValueError(f"expected half of holdout_set_ratio_max ({ratio_max}) for Twin")
        if ratio_max is not None and strategy == "Simple" and ratio >= ratio_max:
            raise ValueError(f"expected less than holdout_set_ratio_max ({ratio_max}), or nothing is left to train on")
        return ratio

    @property
    def needs(self) -> tuple[Score, ...]:
        return (Score.LOSS, Score.IRREDUCIBLE_LOSS)

    @property
    def reused(self) -> tuple[Score, ...]:
        return (Score.IRREDUCIBLE_LOSS,) if self.reuse_scores else ()

    @property
    def carries_models(self) -> bool:
        return self.reuse_scores or self.il_training_config.use_previous_model

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        """The largest reducible losses; of equal ones the earlier candidates."""
        if candidates.loss is None or candidates.irreducible_loss is None:
            raise InvalidInputError("RHOLoss needs the loss and the irreducible loss of each sample")
        reducible = candidates.loss.astype(np.float64) - candidates.irreducible_loss
        return Choice(np.sort(np.argsort(-reducible, kind="stable")[:size]))
