"""The pipeline YAML as types. Keys that mean what they meant in the published system keep their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from modyn.core.plugins.evaluation import METRICS, WINDOW_STRATEGIES, Metric, WindowStrategy
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.core.plugins.parsers import PARSERS, Parser
from modyn.core.plugins.selection import SELECTION_POLICIES, SelectionPolicy
from modyn.core.plugins.triggers import TRIGGERS, Trigger
from modyn.core.versions import PIPELINE_SCHEMA_VERSION


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    ignored_keys: ClassVar[Mapping[str, str]] = {}


class PipelineSection(Section):
    """What the pipeline is called."""

    name: str = Field(min_length=1, max_length=200)
    description: str | None = None
    version: str | None = None


class ModelSection(Section):
    """The model: an id of the zoo, or ``module:attribute`` of a callable that returns a ``torch.nn.Module``."""

    id: str
    config: dict[str, Any] = {}


class DataSection(Section):
    """The dataset, and how its samples become model inputs."""

    dataset_id: str = Field(min_length=1, max_length=200)
    source: Annotated[SourceFormat, FORMATS.field()] | None = None
    parser: Annotated[Parser, PARSERS.field()] | str | None = None
    """A built-in parser, or ``module:attribute`` of a function of a batch (mapping of Arrow columns -> inputs)."""
    bytes_parser_function: str | None = None
    """Inline Python or ``module:attribute``: a function of one sample's bytes."""
    transformations: list[str] = []
    label_transformer_function: str = ""
    tokenizer: str | None = None


class ParamGroup(Section):
    module: str = "model"
    config: dict[str, Any] = {}


class OptimizerSection(Section):
    name: str = "default"
    algorithm: str = "AdamW"
    source: Literal["PyTorch", "APEX"] = "PyTorch"
    param_groups: list[ParamGroup] = Field([ParamGroup()], min_length=1)


class CriterionSection(Section):
    name: str = "CrossEntropyLoss"
    config: dict[str, Any] = {}


class LrSchedulerSection(Section):
    name: str
    source: Literal["PyTorch", "Custom"] = "PyTorch"
    step_every: Literal["epoch", "batch"] = "epoch"
    optimizers: list[str] = Field(["default"], min_length=1)
    config: dict[str, Any] = {}


class CheckpointingSection(Section):
    activated: bool = False
    interval: int | None = None
    path: str | None = None


class TrainingSection(Section):
    """How to train at each trigger."""

    epochs_per_trigger: PositiveInt = 1
    num_samples_to_pass: list[PositiveInt] | None = None
    batch_size: PositiveInt = 64
    device: str = Field("cpu", pattern=r"^(cpu|cuda|cuda:\d+)$")
    threads: PositiveInt | None = None
    amp: bool = False
    grad_scaler_config: dict[str, Any] | None = None
    shuffle: bool = True
    drop_last_batch: bool = False
    use_previous_model: bool = True
    initial_model: Literal["random", "pretrained"] = "random"
    initial_model_id: str | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    optimizers: list[OptimizerSection] = Field([OptimizerSection()], min_length=1)
    optimization_criterion: CriterionSection = CriterionSection()
    lr_scheduler: LrSchedulerSection | None = None
    checkpointing: CheckpointingSection = CheckpointingSection()
    record_loss_every: int = Field(0, ge=0)


class EvaluationHandler(Section):
    """Which models to score on which windows, and when."""

    name: str = "evaluation"
    execution_time: Literal["after_training", "after_pipeline", "manual"] = "after_pipeline"
    models: Literal["matrix", "active", "training"] = "active"
    strategy: Annotated[WindowStrategy, WINDOW_STRATEGIES.field()]
    datasets: list[str] | None = None
    """Names of evaluation datasets; all by default."""


class EvaluationDataset(DataSection):
    """A dataset to score models on."""

    batch_size: PositiveInt = 256
    metrics: list[Annotated[Metric, METRICS.field()]] = Field([{"name": "Accuracy"}], min_length=1, validate_default=True)  # type: ignore[list-item]


class EvaluationSection(Section):
    handlers: list[EvaluationHandler] = Field(min_length=1)
    device: str = Field("cpu", pattern=r"^(cpu|cuda|cuda:\d+)$")
    datasets: list[EvaluationDataset] | None = None
    """By default the training dataset with its parser, and accuracy."""


class PipelineConfig(Section):
    """One pipeline."""

    schema_version: int = Field(PIPELINE_SCHEMA_VERSION, ge=1, le=PIPELINE_SCHEMA_VERSION)
    pipeline: PipelineSection
    data: DataSection
    model: ModelSection
    trigger: Annotated[Trigger, TRIGGERS.field()]
    selection_strategy: Annotated[SelectionPolicy, SELECTION_POLICIES.field()] = Field(
        {"name": "NewDataStrategy"}, validate_default=True  # type: ignore[assignment]
    )
    training: TrainingSection = TrainingSection()
    model_storage: dict[str, Any] | None = None
    evaluation: EvaluationSection | None = None
