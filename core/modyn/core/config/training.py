"""The ``training`` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator

from modyn.core.config.problems import nearest, planned_error, relation_error
from modyn.core.config.sections import Device, ModelReference, Section, Seed


class ParamGroup(Section):
    """Parameters that share optimizer options."""

    module: str = Field("model", min_length=1, description="Attribute path of a module: model, or model.layer4 …")
    config: dict[str, Any] = Field({}, description="Options such as lr, momentum, weight_decay.")


class OptimizerSection(Section):
    """One optimizer."""

    name: str = Field("default", min_length=1, description="What lr_scheduler.optimizers calls it.")
    algorithm: str = Field("AdamW", min_length=1, description="Name of a class in torch.optim.")
    source: Literal["PyTorch", "APEX"] = Field("PyTorch", description="Library the optimizer comes from.")
    param_groups: list[ParamGroup] = Field([ParamGroup()], min_length=1, description="Parameters it updates.")

    @field_validator("source")
    @classmethod
    def _apex_is_planned(cls, source: str) -> str:
        if source == "APEX":
            raise planned_error("optimizer source 'APEX'")
        return source


class CriterionSection(Section):
    """The loss."""

    name: str = Field("CrossEntropyLoss", min_length=1, description="Name of a class in torch.nn.")
    config: dict[str, Any] = Field({}, description="Its keyword arguments.")


class LrSchedulerSection(Section):
    """A learning-rate schedule, started afresh at each trigger."""

    name: str = Field(min_length=1, description="Name of a class in torch.optim.lr_scheduler.")
    source: Literal["PyTorch", "Custom"] = Field("PyTorch", description="Where the class comes from.")
    step_every: Literal["epoch", "batch"] = Field("epoch", description="When it steps.")
    optimizers: list[str] = Field(["default"], min_length=1, description="Names of the optimizers it drives.")
    config: dict[str, Any] = Field(
        {},
        description="Its keyword arguments; MODYN_NUM_BATCHES and MODYN_NUM_EPOCHS stand for the expected totals.",
    )

    @field_validator("source")
    @classmethod
    def _custom_is_planned(cls, source: str) -> str:
        if source == "Custom":
            raise planned_error("learning-rate scheduler source 'Custom'")
        return source

    @field_validator("optimizers")
    @classmethod
    def _check_one_optimizer(cls, optimizers: list[str], info: ValidationInfo) -> list[str]:
        if len(optimizers) > 1 and info.data.get("source") == "PyTorch":
            raise ValueError("expected one optimizer; a scheduler of torch.optim.lr_scheduler drives exactly one")
        return optimizers


class CheckpointingSection(Section):
    """Saving the state of a training while it runs."""

    activated: bool = Field(False, description="Whether to save checkpoints.")
    interval: PositiveInt | None = Field(None, description="Batches between two checkpoints.")
    path: str | None = Field(None, description="Folder for checkpoints.")

    @field_validator("activated")
    @classmethod
    def _activation_is_planned(cls, activated: bool) -> bool:
        if activated:
            raise planned_error("checkpointing")
        return activated


class TrainingSection(Section):
    """How to train at each trigger."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "dataloader_workers": "samples are read in whole batches ahead of training; set threads for the computation",
        "num_prefetched_partitions": "training sets are read as slices of one file, there are no partitions",
        "parallel_prefetch_requests": "training sets are read as slices of one file, there are no partitions",
        "enable_accurate_gpu_measurements": "times in the report do not need it",
    }

    gpus: PositiveInt = Field(1, description="How many GPUs one training uses, where device is a GPU.")
    epochs_per_trigger: PositiveInt = Field(1, description="Passes over the training set at each trigger.")
    num_samples_to_pass: list[PositiveInt] | None = Field(
        None,
        min_length=1,
        description="The i-th trigger stops after that many samples, in as many epochs as it takes; later triggers "
        "use epochs_per_trigger.",
    )
    batch_size: PositiveInt = Field(64, description="Samples per batch.")
    device: Device = Field("cpu", description="cpu, cuda or cuda:N.")
    threads: PositiveInt | None = Field(
        1,
        description="CPU threads of a job. A fixed number, because other numbers give other bits; raise it for large "
        "models on a CPU. null: all CPUs of the server.",
    )
    amp: bool = Field(False, description="Automatic mixed precision.")
    grad_scaler_config: dict[str, Any] | None = Field(None, description="Keyword arguments of torch's GradScaler.")
    shuffle: bool = Field(True, description="Shuffle the whole training set in each epoch.")
    drop_last_batch: bool = Field(False, description="Leave out a last batch that is not full.")
    use_previous_model: bool = Field(
        True, description="Start from the model of the previous trigger (warm start) instead of fresh weights."
    )
    initial_model: Literal["random", "pretrained"] = Field("random", description="Weights of the first training.")
    initial_model_id: ModelReference | None = Field(
        None, validate_default=True, description="Digest of the stored model to start from, if pretrained."
    )
    seed: Seed = Field(0, description="Of everything random in the pipeline.")
    optimizers: list[OptimizerSection] = Field(
        [OptimizerSection()], min_length=1, description="At least one; names must differ."
    )
    optimization_criterion: CriterionSection = Field(CriterionSection(), description="The loss.")
    lr_scheduler: LrSchedulerSection | None = Field(None, description="Learning-rate schedule; none by default.")
    checkpointing: CheckpointingSection = Field(CheckpointingSection(), description="Saving state while training.")
    record_loss_every: NonNegativeInt = Field(0, description="Report the loss every n batches; 0: per epoch only.")

    @field_validator("gpus")
    @classmethod
    def _several_gpus_are_planned(cls, gpus: int) -> int:
        if gpus > 1:
            raise planned_error("training on several GPUs")
        return gpus

    @field_validator("initial_model_id")
    @classmethod
    def _check_pretrained(cls, model: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("initial_model") != "pretrained":
            return model
        if info.data.get("use_previous_model") is False:
            raise ValueError("initial_model: pretrained needs use_previous_model: true, or it would never be used")
        if model is None:
            raise ValueError("initial_model: pretrained needs the digest of a stored model here")
        return model

    @field_validator("optimizers")
    @classmethod
    def _check_names_differ(cls, optimizers: list[OptimizerSection]) -> list[OptimizerSection]:
        names = [optimizer.name for optimizer in optimizers]
        repeated = [i for i, name in enumerate(names) if name in names[:i]]
        if repeated:
            raise relation_error(
                ((i, "name"), f"value {names[i]!r}: another optimizer has this name; give each its own")
                for i in repeated
            )
        return optimizers

    @field_validator("lr_scheduler")
    @classmethod
    def _check_optimizers_exist(
        cls, scheduler: LrSchedulerSection | None, info: ValidationInfo
    ) -> LrSchedulerSection | None:
        if scheduler is None or "optimizers" not in info.data:
            return scheduler
        names = [optimizer.name for optimizer in info.data["optimizers"]]
        unknown = [(i, name) for i, name in enumerate(scheduler.optimizers) if name not in names]
        if unknown:
            raise relation_error(
                (
                    ("optimizers", i),
                    f"value {name!r}: no optimizer has this name{nearest(name, names)}; there are {', '.join(names)}",
                )
                for i, name in unknown
            )
        return scheduler
