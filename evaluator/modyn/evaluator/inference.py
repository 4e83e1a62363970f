"""One model in a prediction job: loaded when first needed, shown its samples, dropped after the last one."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.out_of_memory import out_of_memory
from modyn.evaluator.parts import OutcomeParts
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.reading import Inputs, Places
from modyn.models.building import build_model
from modyn.models.shapes import failed_layer
from modyn.models.usercode import describe_error
from modyn.models.weights import load
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import fetch_model

FLUSH_BYTES = 64 << 20
"""Outputs of one model kept in memory before they are written."""


class ModelFailedError(Exception):
    """A model cannot be scored; the others can. The message is for the user."""


def seed_torch(seed: int, device: torch.device) -> None:
    """Seeds what draws for tensors."""
    # Not torch.manual_seed: without a GPU, it notes a stack trace for later, which takes milliseconds.
    torch.default_generator.manual_seed(seed % 2**32)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed % 2**32)


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
        seed_torch(self.seed, self.device)  # whatever is random in a model and not part of its weights
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

    def __init__(self, task: ModelTask, load: Callable[[str], torch.nn.Module], output: OutcomeParts) -> None:
        self.task = task
        self._load = load
        self._output = output
        self._module: torch.nn.Module | None = None
        self._in_part = 0
        self._clear()

    def load(self) -> None:
        """Loads the model now, if it needs the first sample: reading it takes a while anyway.

        Raises:
            ModelFailedError: it cannot be loaded.
        """
        if len(self.task) and self.task.runs[0, 0] == 0:
            with self._failing():
                self._module = self._load(self.task.model)

    def see(self, inputs: Inputs, keys: Int64Array, places: Places) -> int:
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
        rows: slice | Int64Array
        if isinstance(places, slice):
            rows, end = self.task.within(places.start, places.stop), places.stop
        else:
            rows, end = self.task.among(places), int(places[-1]) + 1
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        with self._failing():
            if count:
                self._predict(inputs, keys, rows, count)
                self._in_part += count
            if end >= self.task.end:
                self._close()
        return count

    def finish(self) -> None:
        """All samples were shown: writes what is left. The last ones it needed may have been deleted meanwhile.

        Raises:
            ModelFailedError: its output is wrong.
        """
        with self._failing():
            self._close()

    def flush(self) -> int:
        """Writes what is held back, as an outcome file is to be complete; how many predictions are in the file.

        Raises:
            ModelFailedError: its output is wrong.
        """
        with self._failing():
            self._flush()
        count, self._in_part = self._in_part, 0
        return count

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except ModelFailedError:
            raise
        except ModynError as error:
            raise ModelFailedError(error.message) from error
        except Exception as error:
            if out_of_memory(error) is not None:  # the job knows what to do about it
                raise
            traceback.print_exc()
            raise ModelFailedError(f"it raised {describe_error(error)}") from error

    def _close(self) -> None:
        self._flush()
        self._module = None

    def _predict(self, inputs: Inputs, keys: Int64Array, rows: slice | Int64Array, count: int) -> None:
        if self._module is None:
            self._module = self._load(self.task.model)
        if count < len(keys):
            inputs, keys = _selected(inputs, rows), keys[rows]
        with torch.inference_mode():
            scores = class_scores(_forward(self._module, inputs), count)
            predictions = predicted_classes(scores)
        self._keys.append(keys)
        self._predictions.append(predictions)
        self._bytes += count * 16
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
        if out_of_memory(error) is not None:  # not the fault of a layer
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


def _selected(inputs: Inputs, rows: slice | Int64Array) -> Inputs:
    """Rows of a batch; a view where they are one run."""
    if isinstance(inputs, dict):
        return {name: _rows(tensor, rows) for name, tensor in inputs.items()}
    return _rows(inputs, rows)


def _rows(tensor: torch.Tensor, rows: slice | Int64Array) -> torch.Tensor:
    if isinstance(rows, slice):
        return tensor[rows]
    return tensor[torch.from_numpy(rows).to(tensor.device)]
