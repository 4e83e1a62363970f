"""The ``training`` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from modyn.core.config.inline import is_reference
from modyn.core.config.problems import nearest, planned_error, relation_error
from modyn.core.config.sections import Device, ModelReference, Section, Seed
from modyn.core.plugins.callbacks import CALLBACKS, Callback


class ParamGroup(Section):
    """Parameters that share optimizer options."""

    module: str = Field("model", min_length=1, description="Attribute path of a module: model, or model.layer4 …")
    config: dict[str, Any] = Field({}, description="Options such as lr, momentum, weight_decay.")


class OptimizerSection(Section):
    """One optimizer."""

    name: str = Field("default", min_length=1, description="What lr_scheduler.optimizers calls it.")
    algorithm: str = Field("AdamW", min_length=1, description="Name of a class of the source.")
    source: Literal["PyTorch", "APEX"] = Field(
        "PyTorch", description="torch.optim, or apex.optimizers of NVIDIA Apex where it is installed."
    )
    param_groups: list[ParamGroup] = Field([ParamGroup()], min_length=1, description="Parameters it updates.")


class CriterionSection(Section):
    """The loss."""

    name: str = Field("CrossEntropyLoss", min_length=1, description="Name of a class in torch.nn.")
    config: dict[str, Any] = Field({}, description="Its keyword arguments.")


class LrSchedulerSection(Section):
    """A learning-rate schedule, started afresh at each trigger."""

    name: str = Field(
        min_length=1, description="Name of a class in torch.optim.lr_scheduler; of a custom one module:attribute."
    )
    source: Literal["PyTorch", "Custom"] = Field(
        "PyTorch",
        description="Custom: name is a callable of your own; it gets the optimizers and the config, and returns what "
        "has step().",
    )
    step_every: Literal["epoch", "batch"] = Field("epoch", description="When it steps.")
    optimizers: list[str] = Field(["default"], min_length=1, description="Names of the optimizers it drives.")
    config: dict[str, Any] = Field(
        {},
        description="Its keyword arguments; MODYN_NUM_BATCHES and MODYN_NUM_EPOCHS stand for the expected totals.",
    )

    @field_validator("source")
    @classmethod
    def _check_reference(cls, source: str, info: ValidationInfo) -> str:
        name = info.data.get("name")
        if source == "Custom" and name == "DLRMScheduler":
            raise planned_error("learning-rate scheduler 'DLRMScheduler'")
        if name is not None and is_reference(name) != (source == "Custom"):
            raise ValueError(
                "expected PyTorch with the name of a class of torch.optim.lr_scheduler, or Custom with a name of the "
                "form module:attribute"
            )
        return source

    @field_validator("optimizers")
    @classmethod
    def _check_one_optimizer(cls, optimizers: list[str], info: ValidationInfo) -> list[str]:
        if len(optimizers) > 1 and info.data.get("source") == "PyTorch":
            raise ValueError("expected one optimizer; a scheduler of torch.optim.lr_scheduler drives exactly one")
        return optimizers


class CheckpointingSection(Section):
    """Saving the state of a training while it runs, so that one that is killed goes on where it was."""

    ignored_keys: ClassVar[Mapping[str, str]] = {"path": "checkpoints are kept in the server's state directory"}

    activated: bool = Field(True, description="Whether to save checkpoints.")
    interval: PositiveInt | None = Field(None, description="Batches between two checkpoints.")
    seconds: PositiveFloat | None = Field(
        None, description="Seconds between two checkpoints; 60 if no interval is given either."
    )

    @property
    def every_seconds(self) -> float | None:
        """Seconds between two checkpoints; None: only batches count."""
        return 60.0 if self.seconds is None and self.interval is None else self.seconds


class GradientClippingSection(Section):
    """Bounds of gradients, applied before each optimizer step."""

    max_norm: PositiveFloat | None = Field(None, description="Scale all gradients down to this norm over all of them.")
    norm_type: PositiveFloat = Field(2.0, description="Which norm: 2 is the Euclidean one.")
    max_value: PositiveFloat | None = Field(
        None, validate_default=True, description="Clamp each entry of the gradients to [-max_value, max_value]."
    )

    @field_validator("max_value")
    @classmethod
    def _check_one(cls, max_value: float | None, info: ValidationInfo) -> float | None:
        if (max_value is None) == (info.data.get("max_norm") is None):
            raise ValueError("expected either max_norm or max_value")
        return max_value


class CompileSection(Section):
    """Options of ``torch.compile``."""

    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None = Field(
        None, description="What to optimise for."
    )
    backend: str = Field("inductor", min_length=1, description="Which compiler.")
    dynamic: bool | None = Field(None, description="Whether shapes may vary; null: as torch finds out.")
    fullgraph: bool = Field(False, description="Fail where the model cannot be compiled as one graph.")


class EarlyStoppingSection(Section):
    """Ends a training when the loss on samples that it does not train on stops falling."""

    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the training set that is held out; which samples depends on the seed."
    )
    patience: PositiveInt = Field(1, description="Epochs without a lower loss after which the training ends.")
    min_delta: NonNegativeFloat = Field(0.0, description="By how much a loss must be lower to count as lower.")
    restore_best: bool = Field(True, description="Keep the weights of the epoch with the lowest loss.")


def _switch(value: Any) -> Any:
    """``compile: true`` and ``false`` as the section."""
    if value is True:
        return {}
    return None if value is False else value


class TrainingSection(Section):
    """How to train at each trigger."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "num_prefetched_partitions": "training sets are read as slices of one file, there are no partitions",
        "parallel_prefetch_requests": "training sets are read as slices of one file, there are no partitions",
    }

    gpus: PositiveInt = Field(
        1, description="How many GPUs one training uses, from device on; each has a process of its own."
    )
    processes: PositiveInt = Field(
        1, description="How many processes share one training on the CPU, with threads each."
    )
    epochs_per_trigger: PositiveInt = Field(1, description="Passes over the training set at each trigger.")
    num_samples_to_pass: list[PositiveInt] | None = Field(
        None,
        min_length=1,
        description="The i-th trigger stops after that many samples, in as many epochs as it takes; later triggers "
        "use epochs_per_trigger.",
    )
    batch_size: PositiveInt = Field(64, description="Samples per batch.")
    gradient_accumulation: PositiveInt = Field(
        1, description="Batches per optimizer step: their gradients are averaged over all of their samples."
    )
    gradient_clipping: GradientClippingSection | None = Field(None, description="Bounds of gradients; none by default.")
    device: Device = Field("cpu", validate_default=True, description="cpu, cuda or cuda:N.")
    threads: PositiveInt | None = Field(
        1,
        description="CPU threads of a job. A fixed number, because other numbers give other bits; raise it for large "
        "models on a CPU. null: all CPUs of the server.",
    )
    dataloader_workers: NonNegativeInt = Field(
        0,
        description="Processes that run your functions of single samples (bytes_parser_function, transformations); "
        "0: in the training process. Whatever parses whole batches needs none.",
    )
    amp: bool = Field(False, description="Automatic mixed precision.")
    amp_dtype: Literal["bfloat16", "float16"] | None = Field(
        None, description="Lower precision of amp; null: float16 on GPUs, bfloat16 on the CPU."
    )
    grad_scaler_config: dict[str, Any] | None = Field(None, description="Keyword arguments of torch's GradScaler.")
    compile: Annotated[CompileSection | None, BeforeValidator(_switch)] = Field(
        None, description="Compile the model with torch.compile: true, or its options."
    )
    step: str | None = Field(
        None,
        description="module:function of your own, called as function(model, batch, context) for each batch; returns "
        "the loss. By default model and criterion.",
    )
    callbacks: list[Annotated[Callback, CALLBACKS.field()] | str] = Field(
        [], description="Called while training: plug-ins by name, or module:attribute of your own."
    )
    shuffle: bool = Field(True, description="Shuffle the whole training set in each epoch.")
    drop_last_batch: bool = Field(False, description="Leave out a last batch that is not full.")
    use_previous_model: bool = Field(
        True, description="Start from the model of the previous trigger (warm start) instead of fresh weights."
    )
    initial_model: Literal["random", "pretrained"] = Field("random", description="Weights of the first training.")
    initial_model_id: ModelReference | None = Field(
        None, validate_default=True, description="Digest of the stored model to start from, if pretrained."
    )
    initial_model_prefix: str | None = Field(
        None,
        min_length=1,
        description="Take only weights from the initial model whose names begin with this, such as backbone.; the rest "
        "stays random.",
    )
    optimizer_state: Literal["reset", "keep"] = Field(
        "reset", description="Whether optimizers go on with the state they had at the end of the previous training."
    )
    new_classes: Literal["error", "grow"] = Field(
        "error",
        description="What to do when the training set has labels beyond the model's classes: fail, or give its last "
        "layer more outputs.",
    )
    early_stopping: EarlyStoppingSection | None = Field(None, description="End a training early; off by default.")
    seed: Seed = Field(0, description="Of everything random in the pipeline.")
    optimizers: list[OptimizerSection] = Field(
        [OptimizerSection()], min_length=1, description="At least one; names must differ."
    )
    optimization_criterion: CriterionSection = Field(CriterionSection(), description="The loss.")
    lr_scheduler: LrSchedulerSection | None = Field(None, description="Learning-rate schedule; none by default.")
    checkpointing: CheckpointingSection = Field(CheckpointingSection(), description="Saving state while training.")
    record_loss_every: NonNegativeInt = Field(
        0, description="Report progress and loss at every n-th batch too, beside ten times a second."
    )
    enable_accurate_gpu_measurements: bool = Field(
        False, description="Wait for the GPU before and after each timed part of a batch; slower."
    )

    @property
    def world_size(self) -> int:
        """Processes of one training."""
        return self.processes if self.device == "cpu" else self.gpus

    def prefix_of(self, initial_model: str | None) -> str:
        """How the names of weights begin that are taken from a model that a training starts from; empty: all are.

        Where a stored model is named, only that is taken in part: later triggers continue their own.
        """
        named = self.initial_model_id if self.initial_model == "pretrained" else None
        return (self.initial_model_prefix or "") if named is None or named == initial_model else ""

    @field_validator("device")
    @classmethod
    def _check_processes(cls, device: str, info: ValidationInfo) -> str:
        if device != "cpu" and info.data.get("processes", 1) > 1:
            raise ValueError("processes are for the CPU; give the number of GPUs as gpus")
        if device == "cpu" and info.data.get("gpus", 1) > 1:
            raise ValueError("gpus is more than 1; expected cuda or cuda:N, or processes for the CPU")
        return device

    @field_validator("amp_dtype")
    @classmethod
    def _check_amp(cls, dtype: str | None, info: ValidationInfo) -> str | None:
        if dtype is not None and info.data.get("amp") is False:
            raise ValueError("has no effect without amp: true")
        return dtype

    @field_validator("step")
    @classmethod
    def _check_step(cls, step: str | None) -> str | None:
        if step is not None and not is_reference(step):
            raise ValueError("expected module:function, such as my_project.steps:distil")
        return step

    @field_validator("callbacks")
    @classmethod
    def _check_callbacks(cls, callbacks: list[Callback | str]) -> list[Callback | str]:
        wrong = [(i, text) for i, text in enumerate(callbacks) if isinstance(text, str) and not is_reference(text)]
        if wrong:
            names = ", ".join(CALLBACKS.names())
            raise relation_error(
                ((i,), f"value {text!r}: expected module:attribute, or a mapping with the key 'name' (one of {names})")
                for i, text in wrong
            )
        return callbacks

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
