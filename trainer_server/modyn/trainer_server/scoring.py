"""What the current model says of samples, for downsampling: losses, probabilities, gradients, embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.downsampling import Candidates, Float32Array, Score
from modyn.models.embedding import EmbeddingTap
from modyn.models.shapes import misfit
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.losses import Loss

Column = npt.NDArray[Any]


class Scorer:
    """Runs a model on batches, in evaluation mode and without updating anything.

    Args:
        model: on its device.
        name: of the model, for messages.
        loss: the criterion of the training.
        device: of the model.
        precision: what to compute with where that may be lower, as training does; None: the type of the weights.
        needs: what to compute; the irreducible loss is not the model's.

    Raises:
        InvalidInputError: embeddings are needed, and the model has no linear layer.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        loss: Loss,
        device: torch.device,
        *,
        precision: torch.dtype | None,
        needs: Sequence[Score],
    ) -> None:
        self._model = model
        self._loss = loss
        self._device = device
        self._precision = precision
        self.needs = tuple(need for need in needs if need is not Score.IRREDUCIBLE_LOSS)
        """What :meth:`columns` gives."""
        self._tap = EmbeddingTap(model, name) if Score.EMBEDDINGS in needs else None

    def columns(self, batch: Batch) -> dict[Score, Float32Array]:
        """What was asked for, of n samples, [n] or [n, …] each.

        Raises:
            InvalidInputError: the model's outputs do not suit what is needed, or are not finite.
        """
        if not self.needs:
            return {}
        outputs = self._forward(batch)
        found: dict[Score, torch.Tensor] = {}
        if Score.LOSS in self.needs:
            with torch.no_grad():
                found[Score.LOSS] = self._loss.each(outputs, batch.labels, batch.keys)
        if Score.PROBABILITIES in self.needs:
            found[Score.PROBABILITIES] = self._probabilities(outputs)
        if Score.GRADIENTS in self.needs:
            found[Score.GRADIENTS] = self._gradients(outputs, batch)
        if self._tap is not None:
            found[Score.EMBEDDINGS] = self._tap.embeddings(len(batch))
        return {need: _finite(need, tensor, batch.keys) for need, tensor in found.items()}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block the model is in evaluation mode; afterwards as it was."""
        training = {module: module.training for module in self._model.modules()}
        self._model.eval()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode

    def _forward(self, batch: Batch) -> torch.Tensor:
        inputs: Any
        if isinstance(batch.inputs, dict):
            inputs = {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.inputs.items()}
        else:
            inputs = batch.inputs.to(self._device, non_blocking=True)
        catching = self._tap.catching() if self._tap is not None else nullcontext()
        lower = self._precision is not None
        with torch.no_grad(), torch.autocast(self._device.type, dtype=self._precision, enabled=lower), catching:
            outputs = self._outputs(inputs)
        if not isinstance(outputs, torch.Tensor):
            raise InvalidInputError(f"the model returned a {type(outputs).__name__}; expected one tensor of scores")
        return outputs.float()

    def _outputs(self, inputs: Any) -> Any:
        try:
            return self._model(inputs)
        except (ModynError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise misfit(self._model, inputs, error) from error

    def _gradients(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            total = self._loss.each(leaf, batch.labels, batch.keys).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return gradient.flatten(1) if gradient.ndim > 1 else gradient[:, None]

    def _probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        if outputs.ndim > 2:
            raise InvalidInputError(
                f"the model puts out {list(outputs.shape)}; class probabilities, which the downsampling strategy looks "
                "at, need one score per class, [n, classes]"
            )
        scores = outputs[:, None] if outputs.ndim == 1 else outputs
        if not (self._loss.one_label or (self._loss.binary and scores.shape[1] == 1)):
            raise InvalidInputError(
                f"with {self._loss.name} and outputs {list(outputs.shape)} a sample has no class probabilities, which "
                "the downsampling strategy looks at; use a classifier with one label per sample, or another strategy"
            )
        if scores.shape[1] > 1:
            return scores if self._loss.takes_probabilities else torch.softmax(scores, dim=1)
        positive = scores if self._loss.takes_probabilities else torch.sigmoid(scores)
        return torch.cat((1 - positive, positive), dim=1)


def _finite(need: Score, tensor: torch.Tensor, keys: Int64Array) -> Float32Array:
    values: Float32Array = tensor.float().cpu().numpy()
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        raise InvalidInputError(
            f"the {need.value.replace('_', ' ')} of sample key {keys[~finite][0]} is not finite "
            f"({int((~finite).sum())} of {len(keys)} in its batch); lower the learning rate, or look for huge or "
            "missing values in the inputs"
        )
    return values


class Collected:
    """Scores of many samples, gathered batch by batch."""

    def __init__(self) -> None:
        self._columns: dict[Score, list[Column]] = {}
        self._labels: list[Column] = []
        self._places: list[Int64Array] = []
        self._keys: list[Int64Array] = []

    def add(self, batch: Batch, columns: dict[Score, Float32Array]) -> None:
        assert batch.places is not None  # a narrowed source knows them
        for need, values in columns.items():
            self._columns.setdefault(need, []).append(values)
        self._labels.append(batch.labels.cpu().numpy())
        self._places.append(batch.places)
        self._keys.append(batch.keys)

    def __len__(self) -> int:
        return sum(map(len, self._places))

    @property
    def places(self) -> Int64Array:
        """Positions in the training set, int64 [n]."""
        return np.concatenate(self._places)

    @property
    def keys(self) -> Int64Array:
        """int64 [n]"""
        return np.concatenate(self._keys)

    def candidates(self) -> Candidates:
        """All samples, as strategies are told of them; asked once, as the parts are let go."""
        columns = {need: np.concatenate(self._columns.pop(need)) for need in list(self._columns)}
        return candidates_of(np.concatenate(self._labels), columns)


def candidates_of(labels: Column, columns: dict[Score, Float32Array]) -> Candidates:
    """Samples as strategies are told of them.

    Args:
        labels: [n] or [n, k], of any type.
        columns: by what they are, [n] or [n, …].
    """
    if np.issubdtype(labels.dtype, np.floating) and not (labels == np.floor(labels)).all():
        labels = np.zeros(len(labels), dtype=np.int64)
    elif labels.ndim > 1 or not np.issubdtype(labels.dtype, np.integer):
        _, labels = np.unique(labels, axis=0, return_inverse=True)
    classes = labels.reshape(-1).astype(np.int64, copy=False)
    return Candidates(classes, **{need.value: values for need, values in columns.items()})
