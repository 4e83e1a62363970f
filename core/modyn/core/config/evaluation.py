"""The ``evaluation`` section."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from modyn.core.config.data import DataSection
from modyn.core.config.problems import relation_error
from modyn.core.config.sections import Device, Section
from modyn.core.plugins.evaluation import METRICS, WINDOW_STRATEGIES, Metric, WindowStrategy


class EvaluationHandler(Section):
    """Which models to score on which windows, and when."""

    name: str = Field("evaluation", min_length=1, description="What the report calls it.")
    execution_time: Literal["after_training", "after_pipeline", "manual"] = Field(
        "after_pipeline", description="After each training, at the end, or only on request."
    )
    models: Literal["composite", "active", "training", "matrix"] = Field(
        "composite",
        description="The models that were currently active or currently trained at a window (composite), only the "
        "active, only the trained ones, or every model on every window (matrix). Right after a training always matrix.",
    )
    strategy: Annotated[WindowStrategy, WINDOW_STRATEGIES.field()] = Field(
        description="How windows are laid over time."
    )
    datasets: list[str] | None = Field(
        None, min_length=1, description="Names (dataset_id) of evaluation datasets; all by default."
    )

    @model_validator(mode="before")
    @classmethod
    def _matrix_after_training(cls, data: Any) -> Any:
        # Which model is active on a window is only known at the end, so there is no choice to make.
        if isinstance(data, dict) and data.get("execution_time") == "after_training" and "models" not in data:
            data = copy.copy(data)
            data["models"] = "matrix"
        return data

    @field_validator("models")
    @classmethod
    def _check_matrix(cls, models: str, info: ValidationInfo) -> str:
        if info.data.get("execution_time") == "after_training" and models != "matrix":
            raise ValueError(
                "expected matrix, because execution_time is after_training; active and training models are only "
                "known after the pipeline"
            )
        return models


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
