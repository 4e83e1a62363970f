"""One model in a prediction job: loaded when first needed, shown its samples, dropped after the last one."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import torch

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError, ModynError
from modyn.evaluator.outcomes import OutcomeWriter
from modyn.evaluator.plan import ModelTask
from modyn.models.building import build_model
from modyn.models.usercode import describe_error
from modyn.models.weights import load
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import fetch_model

Inputs = torch.Tensor | dict[str, torch.Tensor]

FLUSH_BYTES = 64 << 20
"""Outputs of one model kept in memory before they are written."""


class OutcomeBuffer:
    """The outcome file of a job; it exists once a model said something."""

    def __init__(self, path: Path, *, keep_scores: bool) -> None:
        self._path = path
        self._keep_scores = keep_scores
        self._writer: OutcomeWriter | None = None
        self._num_outputs = 0

    @property
    def keep_scores(self) -> bool:
        return self._keep_scores

    def write(self, model: str, keys: Int64Array, predictions: torch.Tensor, scores: torch.Tensor | None) -> None:
        """Appends what a model said of n samples: int64 [n] and float32 [n, outputs]."""
        outputs = 0 if scores is None else scores.shape[1]
        if self._writer is None:
            self._writer = OutcomeWriter(self._path, outputs if self._keep_scores else None)
            self._num_outputs = outputs
        if outputs != self._num_outputs:
            raise InvalidInputError(f"the model has {outputs} outputs, another one of this request {self._num_outputs}")
        self._writer.write(model, keys, predictions.cpu().numpy(), None if scores is None else scores.cpu().numpy())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class ModelRun:
    """One model and what is left for it to see.

    Attributes:
        failure: what went wrong, for the user; None while all is well.
    """

    def __init__(
        self, task: ModelTask, section: ModelSection, root: str | None, stub: StorageStub, device: torch.device, seed: int
    ) -> None:
        self.task = task
        self.failure: str | None = None
        self._section = section
        self._root = root
        self._stub = stub
        self._device = device
        self._seed = seed
        self._module: torch.nn.Module | None = None
        self._keys: list[Int64Array] = []
        self._predictions: list[torch.Tensor] = []
        self._scores: list[torch.Tensor] = []
        self._bytes = 0

    @property
    def failed(self) -> bool:
        return self.failure is not None

    def see(self, inputs: Inputs, keys: Int64Array, position: int, output: OutcomeBuffer) -> int:
        """Predicts the samples of a batch that the model needs.

        Args:
            inputs: of a batch of n samples.
            keys: of the batch, int64 [n].
            position: of the batch's first sample in the job's keys.
            output: takes the predictions.

        Returns:
            How many predictions were made; a failure makes none and is kept in ``failure``.
        """
        rows = self.task.within(position, position + len(keys))
        if not len(rows):
            return 0
        try:
            self._predict(inputs, keys, rows, output)
            if position + len(keys) >= self.task.end:
                self._flush(output)
                self._module = None
        except ModynError as error:
            self._fail(error.message)
            return 0
        except Exception as error:  # noqa: BLE001 - a user's model may raise anything; the other models go on
            traceback.print_exc()
            self._fail(f"its forward pass raised {describe_error(error)}")
            return 0
        return len(rows)

    def _predict(self, inputs: Inputs, keys: Int64Array, rows: Int64Array, output: OutcomeBuffer) -> None:
        if self._module is None:
            self._module = self._loaded()
        if len(rows) < len(keys):
            inputs, keys = _selected(inputs, rows), keys[rows]
        with torch.inference_mode():
            scores = class_scores(self._module(inputs), len(rows))
        self._keys.append(keys)
        self._predictions.append(scores.argmax(dim=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).to(torch.int64))
        self._bytes += len(rows) * 16
        if output.keep_scores:
            self._scores.append(scores)
            self._bytes += scores.numel() * 4
        if self._bytes >= FLUSH_BYTES:
            self._flush(output)

    def _loaded(self) -> torch.nn.Module:
        data = fetch_model(self._stub, self.task.model)
        torch.manual_seed(self._seed)
        module = build_model(self._section, self._root)
        load(module, data)
        return module.to(self._device).eval()

    def _flush(self, output: OutcomeBuffer) -> None:
        if self._keys:
            scores = torch.cat(self._scores) if self._scores else None
            output.write(self.task.model, np.concatenate(self._keys), torch.cat(self._predictions), scores)
        self._clear()

    def _fail(self, message: str) -> None:
        self.failure = message
        self._module = None
        self._clear()

    def _clear(self) -> None:
        self._keys, self._predictions, self._scores, self._bytes = [], [], [], 0


def class_scores(output: object, count: int) -> torch.Tensor:
    """A model's output as scores, float32 [n, outputs].

    Raises:
        InvalidInputError: it is no tensor [n], [n, 1] or [n, outputs].
    """
    if not isinstance(output, torch.Tensor):
        raise InvalidInputError(f"the model returned a {type(output).__name__}; expected a tensor [n, outputs]")
    if output.ndim not in (1, 2) or output.shape[0] != count or output.shape[-1] == 0:
        shape = list(output.shape)
        raise InvalidInputError(f"the model returned shape {shape} for {count} samples; expected [{count}, outputs]")
    return output.reshape(count, -1).to(torch.float32)


def _selected(inputs: Inputs, rows: Int64Array) -> Inputs:
    """Rows of a batch; a view where they are one run."""
    if len(rows) == rows[-1] - rows[0] + 1:
        run = slice(int(rows[0]), int(rows[-1]) + 1)
        return {name: tensor[run] for name, tensor in inputs.items()} if isinstance(inputs, dict) else inputs[run]
    index = torch.from_numpy(rows)
    if isinstance(inputs, dict):
        return {name: tensor[index.to(tensor.device)] for name, tensor in inputs.items()}
    return inputs[index.to(inputs.device)]
