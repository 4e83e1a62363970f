"""The pipeline YAML as types. Keys that mean what they meant in the published system keep their names.

Checks that relate several keys are validators of the last of them, so that they still run when another key of
the section is wrong: a user sees every problem at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, ValidationError, ValidationInfo, field_validator
from pydantic_core import core_schema

from modyn.core.config.data import DataSection
from modyn.core.config.evaluation import EvaluationDataset, EvaluationHandler, EvaluationSection
from modyn.core.config.inline import is_reference
from modyn.core.config.model_storage import IncrementalModelStrategy, ModelStorageSection, RetentionSection
from modyn.core.config.problems import nearest, nested_error, planned_error, relation_error
from modyn.core.config.sections import Section
from modyn.core.config.training import (
    CheckpointingSection,
    CriterionSection,
    LrSchedulerSection,
    OptimizerSection,
    ParamGroup,
    TrainingSection,
)
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.models import MODELS
from modyn.core.plugins.selection import SELECTION_POLICIES, SelectionPolicy
from modyn.core.plugins.triggers import TRIGGERS, Trigger
from modyn.core.versions import PIPELINE_SCHEMA_VERSION

__all__ = [
    "CheckpointingSection",
    "CriterionSection",
    "DataSection",
    "EvaluationDataset",
    "EvaluationHandler",
    "EvaluationSection",
    "IncrementalModelStrategy",
    "LrSchedulerSection",
    "ModelSection",
    "ModelStorageSection",
    "OptimizerSection",
    "ParamGroup",
    "PipelineConfig",
    "PipelineSection",
    "RetentionSection",
    "Section",
    "TrainingSection",
    "checked_model_config",
    "checked_model_id",
    "evaluation_datasets",
]


class PipelineSection(Section):
    """What the pipeline is called."""

    name: str = Field(min_length=1, max_length=200, description="Name of the pipeline, need not be unique.")
    description: str | None = Field(None, description="For people.")
    version: str | None = Field(None, description="For people.")


def checked_model_id(model: str) -> str:
    """A model of the zoo or a reference; anything else is a ValueError that says so."""
    if ":" in model:
        if not is_reference(model):
            raise ValueError("expected module:attribute, such as my_project.models:Net")
        return model
    if model in MODELS.planned and model not in MODELS.names():
        raise planned_error(f"model {model!r}")
    try:
        MODELS.get(model)
    except InvalidInputError as error:
        raise ValueError(f"{error.message}, or module:attribute") from error
    return model


def checked_model_config(model: str, config: Any, context: Any) -> Any:
    """The model's own fields, every default filled in; user models check theirs when they are built."""
    if ":" in model or not isinstance(config, Mapping):
        return config
    plugin = MODELS.get(model)
    try:
        return plugin.model_validate(config, context=context).model_dump(mode="json")
    except ValidationError as error:
        raise nested_error(error, plugin) from error


class ModelSection(Section):
    """The model to train."""

    id: str = Field(
        min_length=1,
        description="A model of the zoo by its id, or module:attribute of a callable that returns a torch.nn.Module.",
    )
    config: dict[str, Any] = Field({}, validate_default=True, description="Keyword arguments of the model.")

    @field_validator("id")
    @classmethod
    def _check_id(cls, model: str) -> str:
        return checked_model_id(model)

    @field_validator("config", mode="before")
    @classmethod
    def _check_config(cls, config: Any, info: ValidationInfo) -> Any:
        return checked_model_config(info.data.get("id", ":"), config, info.context)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described = super().__get_pydantic_json_schema__(schema, handler)
        resolved = handler.resolve_ref_schema(described)
        known = sorted({*MODELS.names(), *MODELS.planned})
        resolved["properties"]["id"]["anyOf"] = [{"enum": known}, {"pattern": ":"}]
        resolved["allOf"] = [_config_schema(name) for name in MODELS.names()]
        return described


def _config_schema(model: str) -> dict[str, Any]:
    """JSON Schema: with this ``id``, ``config`` has these keys."""
    fields = MODELS.get(model).model_json_schema()
    body: dict[str, Any] = {"properties": {"config": fields}}
    if fields.get("required"):
        body["required"] = ["config"]
    return {"if": {"properties": {"id": {"const": model}}, "required": ["id"]}, "then": body}


class PipelineConfig(Section):
    """One pipeline."""

    schema_version: int = Field(
        PIPELINE_SCHEMA_VERSION,
        ge=1,
        le=PIPELINE_SCHEMA_VERSION,
        description="Version of this schema the file was written for.",
    )
    pipeline: PipelineSection = Field(description="What the pipeline is called.")
    data: DataSection = Field(description="The dataset, and how its samples become model inputs.")
    model: ModelSection = Field(description="The model to train.")
    trigger: Annotated[Trigger, TRIGGERS.field()] = Field(description="When to retrain.")
    selection_strategy: Annotated[SelectionPolicy, SELECTION_POLICIES.field()] = Field(
        {"name": "NewDataStrategy"},
        validate_default=True,
        description="Which samples to train on.",
    )
    training: TrainingSection = Field(TrainingSection(), description="How to train at each trigger.")
    model_storage: ModelStorageSection | None = Field(
        None, description="How models are stored, and how long; null: whole, and for good."
    )
    evaluation: EvaluationSection | None = Field(None, description="What the models are scored on; none by default.")

    @field_validator("training")
    @classmethod
    def _check_one_process(cls, training: TrainingSection, info: ValidationInfo) -> TrainingSection:
        policy = info.data.get("selection_strategy")
        if policy is not None and policy.downsamples and training.world_size > 1:
            key = "processes" if training.device == "cpu" else "gpus"
            text = (
                f"value {training.world_size}: downsampling (selection_strategy.downsampling_config) needs one process "
                "that sees all samples; expected 1, or no downsampling"
            )
            raise relation_error([((key,), text)])
        return training

    @field_validator("evaluation")
    @classmethod
    def _check_dataset_names(
        cls, evaluation: EvaluationSection | None, info: ValidationInfo
    ) -> EvaluationSection | None:
        if evaluation is None or (evaluation.datasets is None and "data" not in info.data):
            return evaluation
        datasets = evaluation.datasets or [info.data["data"]]
        names = [dataset.dataset_id for dataset in datasets]
        unknown = [
            (("handlers", i, "datasets", j), name)
            for i, handler in enumerate(evaluation.handlers)
            for j, name in enumerate(handler.datasets or ())
            if name not in names
        ]
        if unknown:
            raise relation_error(
                (
                    location,
                    f"value {name!r}: expected the dataset_id of an evaluation dataset{nearest(name, names)}: "
                    + ", ".join(names),
                )
                for location, name in unknown
            )
        return evaluation


def evaluation_datasets(config: PipelineConfig) -> list[EvaluationDataset]:
    """The datasets to score on, resolved: empty without an ``evaluation`` section.

    Without ``evaluation.datasets`` it is the training dataset and accuracy. One that names the training dataset
    and says nothing about how samples become inputs takes that from the ``data`` section.
    """
    if config.evaluation is None:
        return []
    if config.evaluation.datasets is None:
        return [EvaluationDataset(**_decoding(config.data), dataset_id=config.data.dataset_id)]
    return [_inherited(dataset, config.data) for dataset in config.evaluation.datasets]


_DECODING_KEYS = ("parser", "bytes_parser_function", "transformations", "label_transformer_function", "tokenizer")


def _decoding(data: DataSection) -> dict[str, Any]:
    return {key: getattr(data, key) for key in _DECODING_KEYS}


def _inherited(dataset: EvaluationDataset, data: DataSection) -> EvaluationDataset:
    says_how = any(key in dataset.model_fields_set and getattr(dataset, key) for key in _DECODING_KEYS)
    if dataset.dataset_id != data.dataset_id or says_how:
        return dataset
    return dataset.model_copy(update=_decoding(data))
