"""Training steps of the user's own: ``training.step: module:function``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import ModelSection, TrainingSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.peers import Peers
from modyn.core.values import from_value
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.usercode import describe_error, load_attribute
from modyn.models.weights import load
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.storage.reader import fetch_model
from modyn.trainer_server.batch import Batch, Inputs
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.old_samples import OldSamples
from modyn.trainer_server.parallel import Parallel, reading
from modyn.trainer_server.resuming import Generators

KEY = "training.step"


@dataclass(frozen=True, eq=False)
class StepBatch:
    """n samples as a step gets them, on the device of the training.

    Attributes:
        inputs: what the parser made: a tensor [n, …], or several by name.
        labels: [n] or [n, k].
        weights: float32 [n]; None: all 1.
        keys: int64 [n], a NumPy array.
    """

    inputs: Inputs
    labels: torch.Tensor
    weights: torch.Tensor | None
    keys: Int64Array

    def __len__(self) -> int:
        return len(self.keys)


class StepContext:
    """What a step may use besides the model and the batch.

    Attributes:
        epoch: 0, 1, 2 …
        batch_index: in the epoch, from 0.
        trigger_index: 0, 1, 2 …
        device: of the training.
    """

    def __init__(self, step: OwnStep, batch: Batch, epoch: int, batch_index: int) -> None:
        self.epoch = epoch
        self.batch_index = batch_index
        self.trigger_index = step.trigger_index
        self.device = step.device
        self._step = step
        self._known: dict[int, tuple[Batch, StepBatch]] = {}
        self.given = self._moved(batch)
        """The batch of this step."""

    @property
    def previous_model(self) -> nn.Module | None:
        """The model of the trigger before, in evaluation mode and without gradients; None at the first trigger."""
        return self._step.previous_model()

    def old_samples(self, count: int) -> StepBatch | None:
        """Samples of the training sets of earlier triggers, drawn at random: for a (seed, trigger, epoch, batch) always
        the same.

        Args:
            count: how many; fewer if so many are not left.

        Returns:
            None if there are none, as at the first trigger.
        """
        batch = self._step.old.draw(count, self.epoch, self.batch_index)
        return None if batch is None else self._moved(batch)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """``training.optimization_criterion``: the mean loss of a batch, a scalar.

        Args:
            outputs: of the model, [n, …].
            labels: [n] or [n, k].
            weights: of the samples, float32 [n]; None: all 1.

        Raises:
            InvalidInputError: they do not fit each other.
        """
        known = self._known.get(id(labels))
        if known is None:
            return self._step.criterion(outputs, labels, weights, np.full(len(labels), -1))
        batch = known[0]
        return self._step.criterion(outputs, batch.labels, weights, batch.keys, label_range=batch.label_range)

    def _moved(self, batch: Batch) -> StepBatch:
        device = self.device
        moved = StepBatch(
            on_device(batch.inputs, device),
            batch.labels.to(device, non_blocking=True),
            None if batch.weights is None else batch.weights.to(device, non_blocking=True),
            batch.keys,
        )
        self._known[id(moved.labels)] = batch, moved
        return moved


Function = Callable[[nn.Module, StepBatch, StepContext], torch.Tensor]


@dataclass(eq=False)
class OwnStep:
    """The user's function in place of model and criterion.

    Attributes:
        name: its reference.
        criterion: means over the samples that this process has.
        old: samples of earlier triggers.
        trigger_index: of the training.
    """

    name: str
    function: Function
    criterion: Loss
    device: torch.device
    old: OldSamples
    trigger_index: int
    parallel: Parallel
    _load_previous: Callable[[], nn.Module | None]
    _previous: tuple[nn.Module | None] | None = None

    @staticmethod
    def of(
        request: TrainRequest,
        section: TrainingSection,
        *,
        peers: Peers,
        decoder: Decoder,
        device: torch.device,
        parallel: Parallel,
        labels: LabelsAsOf | None,
    ) -> OwnStep | None:
        """The step of a training; None if it has none of its own.

        Args:
            labels: which labels the training set was selected with; None: the newest.

        Raises:
            InvalidInputError: there is no such function.
        """
        if section.step is None:
            return None
        root = request.code.root if request.code.HasField("root") else None
        function = load_attribute(section.step, root)
        if not callable(function):
            raise InvalidInputError(f"{KEY}: {section.step!r} is a {type(function).__name__}; expected a function")
        return OwnStep(
            section.step,
            function,
            Loss(section.optimization_criterion, device),
            device,
            OldSamples(request, peers, decoder, labels, parallel, stopping=section.early_stopping),
            request.trigger_index,
            parallel,
            lambda: _previous_model(request, peers, root, device),
        )

    def previous_model(self) -> nn.Module | None:
        """Loaded when it is asked for first; the generators do not notice."""
        if self._previous is None:
            generators = Generators()
            before = generators.state()
            self._previous = (self._load_previous(),)
            generators.resume(before)
        return self._previous[0]

    def __call__(self, network: nn.Module, batch: Batch, epoch: int, batch_index: int) -> torch.Tensor:
        """The loss of one batch, a scalar.

        Raises:
            InvalidInputError: the function raised, or returned no loss.
        """
        context = StepContext(self, batch, epoch, batch_index)
        try:
            loss = self.function(network, context.given, context)
        except (ModynError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InvalidInputError(f"{KEY}: {self.name} raised {describe_error(error)}") from error
        self._check(loss)
        return loss if self.parallel.size == 1 else self._share(loss, batch)

    def _check(self, loss: Any) -> None:
        expected = "expected a scalar tensor, the mean loss over the samples of the batch"
        if not isinstance(loss, torch.Tensor):
            raise InvalidInputError(f"{KEY}: {self.name} returned a {type(loss).__name__}; {expected}")
        if loss.numel() != 1 or loss.ndim:
            raise InvalidInputError(f"{KEY}: {self.name} returned a tensor of shape {list(loss.shape)}; {expected}")
        if not loss.requires_grad:
            raise InvalidInputError(
                f"{KEY}: {self.name} returned a loss without gradients; {expected}, computed from the model's outputs "
                "(not within torch.no_grad(), not detached, not item())"
            )

    def _share(self, loss: torch.Tensor, batch: Batch) -> torch.Tensor:
        """A loss whose value is the mean over the whole batch, and whose gradients, averaged over all processes, are
        those of that mean."""
        rows = 0 if batch.padding else len(batch)
        scaled = loss * (rows * self.parallel.size / batch.of)
        value = self.parallel.total(scaled.detach()) / self.parallel.size
        return reading(scaled, value)

    def close(self) -> None:
        """Ends what runs beside the training."""
        self.old.close()


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Inputs of a model where it is."""
    if isinstance(inputs, dict):
        return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    return inputs.to(device, non_blocking=True)


def _previous_model(request: TrainRequest, peers: Peers, root: str | None, device: torch.device) -> nn.Module | None:
    if not request.HasField("previous_model"):
        return None
    model = build_model(parse_section(ModelSection, from_value(request.model), "model"), root)
    load(model, fetch_model(peers.storage, request.previous_model))
    return model.to(device).eval().requires_grad_(False)
