"""The ``evaluation`` section."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationInfo, field_validator, model_validator

from modyn.core.config.data import DataSection
from modyn.core.config.problems import relation_error
from modyn.core.config.sections import Device, Section
from modyn.core.durations import Duration
from modyn.core.plugins.evaluation import METRICS, WINDOW_STRATEGIES, Metric, WindowStrategy


class EvaluationHandler(Section):
    """Which models to score on which windows, and when."""

    name: str = Field("evaluation", min_length=1, description="What the report calls it.")
    execution_time: Literal["after_training", "after_pipeline", "manual"] = Field(
        "after_pipeline", description="After each training, at the end, or only on request."
    )
    strategy: Annotated[WindowStrategy, WINDOW_STRATEGIES.field()] = Field(
        description="How windows are laid over time."
    )
    models: Literal["composite", "active", "training", "matrix"] = Field(
        "composite",
        description="The models that were currently active or currently trained at a window (composite), only the "
        "active, only the trained ones, or every model on every window (matrix). Right after a training always matrix.",
    )
    datasets: list[str] | None = Field(
        None, min_length=1, description="Names (dataset_id) of evaluation datasets; all by default."
    )

    @model_validator(mode="before")
    @classmethod
    def _only_choice(cls, data: Any) -> Any:
        # Which model is active on a window is only known at the end, and windows that belong to a model are scored with
        # it: there is no choice to make.
        if isinstance(data, dict) and "models" not in data:
            only = "training" if _belong_to_models(data.get("strategy")) else None
            if only is None and data.get("execution_time") == "after_training":
                only = "matrix"
            if only is not None:
                data = copy.copy(data)
                data["models"] = only
        return data

    @field_validator("models")
    @classmethod
    def _check_models(cls, models: str, info: ValidationInfo) -> str:
        strategy = info.data.get("strategy")
        if strategy is not None and strategy.belongs_to_models:
            if models != "training":
                name = strategy.plugin_name
                raise ValueError(f"expected training, because each window of {name} belongs to one trigger's model")
        elif info.data.get("execution_time") == "after_training" and models != "matrix":
            raise ValueError(
                "expected matrix, because execution_time is after_training; active and training models are only known "
                "after the pipeline"
            )
        return models


def _belong_to_models(strategy: Any) -> bool:
    name = strategy.get("type") if isinstance(strategy, Mapping) else getattr(strategy, "plugin_name", None)
    return name in WINDOW_STRATEGIES.names() and WINDOW_STRATEGIES.get(str(name)).belongs_to_models


class TrainingCost(Section):
    """How long a training takes, as a rule instead of a measurement."""

    seconds_per_sample: NonNegativeFloat = Field(0.0, description="For each pass over a sample.")
    seconds_per_training: NonNegativeFloat = Field(0.0, description="For each training.")


class EvaluationDataset(DataSection):
    """A dataset to score models on."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "dataloader_workers": "samples are read in whole batches ahead of the model",
    }

    batch_size: PositiveInt = Field(256, description="Samples per batch.")
    metrics: list[Annotated[Metric, METRICS.field()]] = Field(
        [{"name": "Accuracy"}],
        min_length=1,
        validate_default=True,
        description="Scores to compute.",
    )
    slices: list[str] = Field(
        [],
        description="Payload columns: samples are also scored by the values of each, such as one score per region.",
    )
    confusion_matrix: bool = Field(
        True, description="Count labels against predicted classes, where labels are classes and not too many."
    )
    samples: Literal["all", "test"] = Field(
        "all",
        description="Which samples to score on: all, or those of role test alone, which no training ever sees. Only "
        "scores on test samples are certified.",
    )

    @field_validator("slices")
    @classmethod
    def _check_slices_differ(cls, slices: list[str]) -> list[str]:
        repeated = [i for i, name in enumerate(slices) if name in slices[:i]]
        if repeated:
            raise relation_error(((i,), f"value {slices[i]!r}: this column is named twice") for i in repeated)
        return slices

    @field_validator("metrics")
    @classmethod
    def _check_results_differ(cls, metrics: list[Metric]) -> list[Metric]:
        names = [metric.result_name for metric in metrics]
        repeated = [i for i, name in enumerate(names) if name in names[:i]]
        if repeated:
            raise relation_error(
                ((i,), f"another metric of this dataset already reports {names[i]!r}; remove one") for i in repeated
            )
        return metrics


class EvaluationSection(Section):
    """What the trained models are scored on."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "after_training_evaluation_workers": "the evaluator's device slots decide how much runs at once",
        "after_pipeline_evaluation_workers": "the evaluator's device slots decide how much runs at once",
    }

    handlers: list[EvaluationHandler] = Field(min_length=1, description="At least one evaluation handler.")
    device: Device = Field("cpu", description="cpu, cuda or cuda:N.")
    datasets: list[EvaluationDataset] | None = Field(
        None,
        min_length=1,
        description="Datasets to score on; by default the training dataset with its parser, and accuracy.",
    )

    training_latency: Literal["zero", "measured"] | TrainingCost = Field(
        "zero",
        description="When a model counts as active: at once (zero), or once its training would have finished, where "
        "trainings follow each other; measured takes what they took, a mapping with seconds_per_sample and "
        "seconds_per_training computes it.",
    )
    labels: Literal["newest", "known"] = Field(
        "newest",
        description="Score with the newest labels, or each window with those that were known at its end; samples "
        "without one are left out and counted.",
    )
    label_delay: Duration | None = Field(
        None,
        description="Labels that came with their samples are known only so long after the event time. Baselines do not "
        "look at them earlier, nor does labels: known.",
    )
    confidence: float | None = Field(
        0.95, gt=0.5, lt=1, description="Level of the confidence intervals of scores; null for none."
    )

    @field_validator("handlers")
    @classmethod
    def _number_repeated_names(cls, handlers: list[EvaluationHandler]) -> list[EvaluationHandler]:
        """Results are kept by handler name, so repeated names get a number: evaluation, evaluation-2 …"""
        taken = {handler.name for handler in handlers}
        seen: Counter[str] = Counter()
        numbered = []
        for handler in handlers:
            seen[handler.name] += 1
            name, number = handler.name, seen[handler.name]
            if number > 1:
                while (name := f"{handler.name}-{number}") in taken:
                    number += 1
                taken.add(name)
            numbered.append(handler if name == handler.name else handler.model_copy(update={"name": name}))
        return numbered

    @field_validator("datasets")
    @classmethod
    def _check_ids_differ(cls, datasets: list[EvaluationDataset] | None) -> list[EvaluationDataset] | None:
        names = [dataset.dataset_id for dataset in datasets or ()]
        repeated = [i for i, name in enumerate(names) if name in names[:i]]
        if repeated:
            raise relation_error(
                ((i, "dataset_id"), f"value {names[i]!r}: another evaluation dataset has this id") for i in repeated
            )
        return datasets
