"""One model in a prediction job: loaded when first needed, shown its samples, dropped after the last one."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.out_of_memory import out_of_memory
from modyn.evaluator.outcomes import OutcomeWriter
from modyn.evaluator.plan import ModelTask
from modyn.models.building import build_model
from modyn.models.shapes import failed_layer
from modyn.models.usercode import describe_error
from modyn.models.weights import load
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import fetch_model

Inputs = torch.Tensor | dict[str, torch.Tensor]

FLUSH_BYTES = 64 << 20
"""Outputs of one model kept in memory before they are written."""


class ModelFailedError(Exception):
    """A model cannot be scored; the others can. The message is for the user."""


class OutcomeBuffer:
    """The outcome file of a job; it exists once a model said something."""

    def __init__(self, path: Path, *, keep_scores: bool) -> None:
        self.keep_scores = keep_scores
        self._path = path
        self._writer: OutcomeWriter | None = None
        self._num_outputs = 0

    def write(self, model: str, keys: Int64Array, predictions: torch.Tensor, scores: torch.Tensor | None) -> None:
        """Appends what a model said of n samples: int64 [n] and, if they are kept, float32 [n, outputs]."""
        outputs = 0 if scores is None else scores.shape[1]
        if self._writer is None:
            self._writer = OutcomeWriter(self._path, outputs if self.keep_scores else None)
            self._num_outputs = outputs
        if outputs != self._num_outputs:
            raise InvalidInputError(
                f"the model has {outputs} outputs, but another one of this evaluation has {self._num_outputs}; "
                "evaluate them in pipelines of their own"
            )
        self._writer.write(model, keys, predictions.cpu().numpy(), None if scores is None else scores.cpu().numpy())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@dataclass(frozen=True)
class ModelLoader:
    """Turns stored weights into modules ready to predict."""

    section: ModelSection
    root: str | None
    stub: StorageStub
    device: torch.device
    seed: int

    def __call__(self, digest: str) -> torch.nn.Module:
        data = fetch_model(self.stub, digest)
        torch.manual_seed(self.seed)  # whatever is random in a model and not part of its weights
        module = build_model(self.section, self.root)
        load(module, data)
        return module.to(self.device).eval()


class ModelRun:
    """One model and what it said since the last write.

    Args:
        task: which samples it needs.
        load: makes its module.
        output: takes its predictions.
    """

    def __init__(self, task: ModelTask, load: Callable[[str], torch.nn.Module], output: OutcomeBuffer) -> None:
        self.task = task
        self._load = load
        self._output = output
        self._module: torch.nn.Module | None = None
        self.num_predicted = 0
        self._clear()

    def see(self, inputs: Inputs, keys: Int64Array, places: slice | Int64Array) -> int:
        """Predicts the samples of a batch that the model needs.

        Args:
            inputs: of a batch of n samples.
            keys: of the batch, int64 [n].
            places: positions of the samples in the job's keys, ascending; n of them.

        Returns:
            How many predictions were made.

        Raises:
            ModelFailedError: it cannot be loaded, or its forward pass or output is wrong.
        """
        if isinstance(places, slice):
            rows, end = self.task.within(places.start, places.stop), places.stop
        else:
            rows, end = self.task.among(places), int(places[-1]) + 1
        with self._failing():
            if len(rows):
                self._predict(inputs, keys, rows)
                self.num_predicted += len(rows)
            if end >= self.task.end:
                self._close()
        return len(rows)

    def finish(self) -> None:
        """All samples were shown: writes what is left. The last ones it needed may have been deleted meanwhile.

        Raises:
            ModelFailedError: its output is wrong.
        """
        with self._failing():
            self._close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except ModelFailedError:
            raise
        except ModynError as error:
            raise ModelFailedError(error.message) from error
        except Exception as error:
            traceback.print_exc()
            raise ModelFailedError(f"it raised {describe_error(error)}") from error

    def _close(self) -> None:
        self._flush()
        self._module = None

    def _predict(self, inputs: Inputs, keys: Int64Array, rows: Int64Array) -> None:
        if self._module is None:
            self._module = self._load(self.task.model)
        if len(rows) < len(keys):
            inputs, keys = _selected(inputs, rows), keys[rows]
        with torch.inference_mode():
            scores = class_scores(_forward(self._module, inputs), len(rows))
            predictions = predicted_classes(scores)
        self._keys.append(keys)
        self._predictions.append(predictions)
        self._bytes += len(rows) * 16
        if self._output.keep_scores:
            self._scores.append(scores)
            self._bytes += scores.numel() * 4
        if self._bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._keys:
            scores = torch.cat(self._scores) if self._scores else None
            self._output.write(self.task.model, np.concatenate(self._keys), torch.cat(self._predictions), scores)
        self._clear()

    def _clear(self) -> None:
        self._keys: list[Int64Array] = []
        self._predictions: list[torch.Tensor] = []
        self._scores: list[torch.Tensor] = []
        self._bytes = 0


def _forward(module: torch.nn.Module, inputs: Inputs) -> object:
    """The output of a model; whatever it raises becomes an error that names the layer."""
    try:
        return module(inputs)
    except ModynError:
        raise
    except Exception as error:
        if out_of_memory(error) is not None:  # not the model's fault alone; the job says so
            raise
        traceback.print_exc()
        layer = failed_layer(module, inputs)
        where = "" if layer is None else f"; {layer}"
        raise ModelFailedError(f"its forward pass raised {describe_error(error)}{where}") from error


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


def predicted_classes(scores: torch.Tensor) -> torch.Tensor:
    """Classes of scores [n, outputs], int64 [n]: the largest one; of a single output, its sign."""
    return scores.argmax(dim=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).to(torch.int64)


def _selected(inputs: Inputs, rows: Int64Array) -> Inputs:
    """Rows of a batch; a view where they are one run."""
    if isinstance(inputs, dict):
        return {name: _rows(tensor, rows) for name, tensor in inputs.items()}
    return _rows(inputs, rows)


def _rows(tensor: torch.Tensor, rows: Int64Array) -> torch.Tensor:
    if len(rows) == rows[-1] - rows[0] + 1:
        return tensor[int(rows[0]) : int(rows[-1]) + 1]
    return tensor[torch.from_numpy(rows).to(tensor.device)]
