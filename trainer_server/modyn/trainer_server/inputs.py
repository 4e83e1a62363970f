"""The inputs of a training, typed and checked, and the digest that stands for all of them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from modyn.core.config.pipeline import DataSection, ModelSection, TrainingSection
from modyn.core.config.problems import parse_section
from modyn.core.digests import digest_inputs
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, DownsamplingStrategy
from modyn.core.values import from_value
from modyn.core.versions import distribution_version
from modyn.models.usercode import CodeIdentity, check_allowed, code_identity
from modyn.proto.selector_pb2 import TrainingSet
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.trainer_server.downsampling.rho_loss import RHOLoss
from modyn.trainer_server.strategies import strategy_of

INPUT_FORMAT_VERSION = 2
"""Part of every input digest; raised when a training of the same inputs would give other weights than before."""

WITHOUT_INFLUENCE = frozenset(
    {
        # on the weights
        "checkpointing", "dataloader_workers", "enable_accurate_gpu_measurements", "record_loss_every",
        # what of them matters stands in the digest by itself
        "device", "gpus", "initial_model", "initial_model_id", "initial_model_prefix", "num_samples_to_pass",
        "processes", "seed", "threads", "use_previous_model",
    }
)  # fmt: skip
"""Keys of the training section that are not part of input digests as they are."""

_PIPELINE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class TrainingInputs:
    """One request, checked.

    Attributes:
        request: as received.
        training: its ``training`` section.
        model: its ``model`` section.
        data: its ``data`` section.
        threads: CPU threads of the job.
        strategy: how the training set is narrowed in the job.
    """

    request: TrainRequest
    training: TrainingSection
    model: ModelSection
    data: DataSection
    threads: int
    strategy: DownsamplingStrategy | None = None

    @staticmethod
    def of(request: TrainRequest, allow_user_code: bool) -> TrainingInputs:
        """Checks a request, without importing torch or user code.

        Raises:
            InvalidInputError: a section or field is wrong.
            NotAllowedError: it has code that this server does not run.
        """
        if not _PIPELINE_ID.fullmatch(request.pipeline_id):
            raise InvalidInputError(
                f"pipeline_id {request.pipeline_id!r}: expected letters, digits, '.', '_' and '-' only"
            )
        training = parse_section(TrainingSection, from_value(request.training), "training")
        model = parse_section(ModelSection, from_value(request.model), "model")
        data = parse_section(DataSection, from_value(request.data), "data")
        threads = training.threads or os.cpu_count() or 1
        inputs = TrainingInputs(request, training, model, data, threads, strategy_of(request))
        if inputs.strategy is not None and training.world_size > 1:
            raise InvalidInputError(
                f"training.processes and gpus: downsampling ({inputs.strategy.plugin_name}) needs one process, not "
                f"{training.world_size}; set them to 1, or do not downsample"
            )
        check_allowed(data, inputs.code_root, allow_user_code=allow_user_code)
        return inputs

    @property
    def code_root(self) -> str | None:
        return self.request.code.root if self.request.code.HasField("root") else None

    @property
    def initial_model(self) -> str | None:
        return self.request.initial_model if self.request.HasField("initial_model") else None

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``."""
        return "cuda:0" if self.training.device == "cuda" else self.training.device

    @property
    def what(self) -> str:
        """For messages."""
        return f"training of trigger {self.request.trigger_index} of pipeline {self.request.pipeline_id}"

    def code(self) -> CodeIdentity:
        """What code the job will run."""
        models = (self.strategy.il_training_config.model,) if isinstance(self.strategy, RHOLoss) else ()
        strategies = () if self.strategy is None else (type(self.strategy),)
        callbacks = [type(callback) for callback in self.training.callbacks if not isinstance(callback, str)]
        plugins = (*strategies, *callbacks)
        return code_identity(self.model, self.data, self.code_root, models, plugins, functions=self._functions())

    def _functions(self) -> dict[str, str]:
        """References of the training section, by YAML key."""
        training = self.training
        found = {f"training.callbacks[{i}]": text for i, text in enumerate(training.callbacks) if isinstance(text, str)}
        if training.step is not None:
            found["training.step"] = training.step
        if training.lr_scheduler is not None and training.lr_scheduler.source == "Custom":
            found["training.lr_scheduler.name"] = training.lr_scheduler.name
        for i, optimizer in enumerate(training.optimizers):
            if optimizer.source == "APEX":  # counts with the version that is installed
                found[f"training.optimizers[{i}].algorithm"] = f"apex.optimizers:{optimizer.algorithm}"
        return found

    def digest(self, training_set: TrainingSet, code_digest: str) -> str:
        """Changes whenever anything does that the weights depend on."""
        request = self.request
        to_pass = request.num_samples_to_pass if request.HasField("num_samples_to_pass") else None
        training = self.training.model_dump(mode="json", exclude=set(WITHOUT_INFLUENCE))
        more: dict[str, Any] = {}
        if training_set.has_weights:
            more["divisor_of_weighted_losses"] = "number of samples"  # it was their sum once
        if self.training.step is not None:  # of all other trainings these are no inputs
            more["previous_model"] = request.previous_model if request.HasField("previous_model") else None
            more["previous_training_sets"] = list(request.previous_training_sets)
            # The content digest is of the new set alone: labels of old samples are known by the time they are as of.
            more["labels"] = training_set.labels.SerializeToString(deterministic=True).hex()
        if self.strategy is not None:
            more |= {
                "downsampling": DOWNSAMPLING_STRATEGIES.dump(self.strategy),
                "scipy": distribution_version("scipy"),
                "scores": request.scores if request.HasField("scores") else None,
                "auxiliary_models": list(request.auxiliary_models),
            }
        return digest_inputs(
            more
            | {
                "format": INPUT_FORMAT_VERSION,
                "initial_model": self.initial_model,
                "initial_model_prefix": self.training.prefix_of(self.initial_model) if self.initial_model else "",
                "optimizer_state": request.optimizer_state if request.HasField("optimizer_state") else None,
                "dataset": request.dataset,
                # Labels count by what they are, which the content digest says, and not by when they were asked for.
                "training_set": training_set.keys_digest or training_set.digest,
                "content": training_set.content_digest,
                "data": self.data.model_dump(mode="json", exclude={"dataset_id", "source"}),
                "model": self.model.model_dump(mode="json"),
                "training": training,
                "num_samples_to_pass": to_pass,
                "seed": request.seed,
                "trigger_index": request.trigger_index,
                "code": code_digest,
                "torch": distribution_version("torch"),
                "numpy": distribution_version("numpy"),
                "device": self.device.partition(":")[0],
                "threads": self.threads,
                "processes": self.training.world_size,
            }
        )
