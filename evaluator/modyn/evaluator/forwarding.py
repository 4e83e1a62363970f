"""Showing samples to models: in turn, or two batches at once where that is safe.

The kernels of a small batch are short. Threads that share one wait for each other twice a layer, and all of them wait
while Python is between two; on busy cores that costs more than the sharing gains. So half of the threads work on one
batch and half on another: more memory than for two batches is never needed. They decode what they show, too, which is
then still in their caches.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
import torch

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.out_of_memory import out_of_memory
from modyn.evaluator.isolating import is_about_samples
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.reading import Batch, Inputs
from modyn.models.decoding import Decoder
from modyn.models.shapes import failed_layer
from modyn.models.usercode import describe_error

AT_ONCE = 2
"""Batches that models work on at the same time."""

STEP_BATCHES = 8
"""Batches that a thread takes on at once: fetching and telling then cost little beside showing them."""

_REENTRANT = ("torch.nn.modules.", "modyn.models.modules.")
"""Where classes of modules are from whose forward pass leaves nothing behind when they only predict."""


class ModelFailedError(Exception):
    """A model cannot be scored; the others can. The message is for the user."""


@dataclass(frozen=True, eq=False)
class Viewer:
    """A model that is shown some samples.

    Attributes:
        task: which samples it needs.
    """

    module: torch.nn.Module
    task: ModelTask


@dataclass(frozen=True, eq=False)
class Said:
    """What a model said of n samples.

    Attributes:
        keys: int64 [n].
        predictions: classes, int64 [n].
        scores: float32 [n, outputs]; None: they are not kept.
    """

    keys: Int64Array
    predictions: torch.Tensor
    scores: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        scores = 0 if self.scores is None else self.scores.nbytes
        return int(self.keys.nbytes) + self.predictions.nbytes + scores

    @staticmethod
    def join(parts: Sequence[Said]) -> Said:
        """All of some, one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        scores = [part.scores for part in parts if part.scores is not None]
        return Said(
            np.concatenate([part.keys for part in parts]),
            torch.cat([part.predictions for part in parts]),
            torch.cat(scores) if scores else None,
        )


@dataclass(frozen=True, eq=False)
class Shown:
    """Samples that were shown.

    Attributes:
        outcomes: for each viewer, what it said of those it needs, or why it could not; None: not all can be decoded.
    """

    batch: Batch
    outcomes: Sequence[Said | Exception] | None


@dataclass(frozen=True, eq=False)
class _Failed:
    """What a module raised, and at what inputs."""

    error: Exception
    inputs: Inputs


@dataclass(eq=False)
class _Saying:
    """What a model has said so far of the samples it is shown."""

    viewer: Viewer
    parts: list[Said] = field(default_factory=list)
    failed: _Failed | None = None


@dataclass(frozen=True, eq=False)
class _Work:
    batch: Batch
    viewers: Sequence[Viewer]


_Result = list[_Saying] | None
"""None: not all samples can be decoded."""


class Forwarding:
    """Shows samples to models; what they say comes back in the order of the samples.

    Args:
        device: of the models.
        batch_size: samples that a model is shown at once.
        threads: that torch may use. They do not change what a model says, but for the last bits.
        keep_scores: whether scores are wanted, beside predictions.

    Attributes:
        decodes: whether it decodes what is shown; else inputs are there already.
    """

    def __init__(
        self, decoder: Decoder, device: torch.device, *, batch_size: int, threads: int, keep_scores: bool
    ) -> None:
        self.decodes = False
        self._decoder = decoder
        self._device = device
        self._batch_size = batch_size
        self._threads = threads
        self._keep_scores = keep_scores
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[tuple[_Work, Future[_Result]]] = deque()

    @property
    def step(self) -> int:
        """Samples that are best shown at once."""
        return self._batch_size * STEP_BATCHES if self.decodes else self._batch_size

    def see_modules(self, modules: Sequence[torch.nn.Module]) -> None:
        """Decides how to work, by models that are like all others; once, before anything is shown."""
        on_cpu = self._device.type == "cpu"
        if modules and on_cpu and self._threads >= AT_ONCE and all(map(is_reentrant, modules)):
            torch.set_num_threads(self._threads // AT_ONCE)  # threads that begin from now on take this as theirs
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="forward")
            self.decodes = self._decoder.parses_batches

    def show(self, batch: Batch, viewers: Sequence[Viewer]) -> Iterator[Shown]:
        """Shows samples; what is known by now, of these and those before.

        Args:
            viewers: each needs at least one of the samples.
        """
        work = _Work(batch, viewers)
        if self._pool is None:
            yield self._shown(work, self._result(work))
            return
        self._under_way.append((work, self._pool.submit(self._result, work)))
        while len(self._under_way) > AT_ONCE:  # one waits, so that no thread has to
            yield self._next()

    def show_now(self, batch: Batch, viewers: Sequence[Viewer]) -> Shown:
        """Shows samples whose inputs are there, whatever else is under way."""
        work = _Work(batch, viewers)
        return self._shown(work, self._result(work))

    def rest(self) -> Iterator[Shown]:
        """What is not told yet, of all that was shown."""
        while self._under_way:
            yield self._next()

    def close(self) -> None:
        """Nothing is worked on any more; what is not told yet is forgotten."""
        if self._pool is not None:
            self._under_way.clear()
            self._pool.shutdown(cancel_futures=True)

    def _next(self) -> Shown:
        work, future = self._under_way.popleft()
        return self._shown(work, future.result())

    def _shown(self, work: _Work, result: _Result) -> Shown:
        outcomes = None if result is None else [self._outcome(saying) for saying in result]
        return Shown(work.batch, outcomes)

    def _outcome(self, saying: _Saying) -> Said | Exception:
        failed = saying.failed
        if failed is None:
            return Said.join(saying.parts)
        error = failed.error
        if isinstance(error, ModynError) or out_of_memory(error) is not None:  # not the fault of a layer
            return error
        # It is run once more to find the layer, and must be at nothing else meanwhile.
        wait([future for _, future in self._under_way])
        traceback.print_exception(error)
        layer = failed_layer(saying.viewer.module, failed.inputs)
        where = "" if layer is None else f"; {layer}"
        explained = ModelFailedError(f"its forward pass raised {describe_error(error)}{where}")
        explained.__cause__ = error
        return explained

    def _result(self, work: _Work) -> _Result:
        sayings = [_Saying(viewer) for viewer in work.viewers]
        for batch in work.batch.cut(self._batch_size):
            inputs = batch.inputs
            if inputs is None:
                try:
                    inputs = self._decoder.inputs(batch.samples.columns)
                except ModynError as error:
                    if not is_about_samples(error):
                        raise
                    return None
            self._show_to_all(batch, moved(inputs, self._device), sayings)
        return sayings

    def _show_to_all(self, batch: Batch, inputs: Inputs, sayings: Sequence[_Saying]) -> None:
        untouched = _versions(inputs)
        for saying in sayings:
            if saying.failed is None:
                self._show_to(saying, batch, inputs)
            if _versions(inputs) != untouched:  # it worked in place; the next one must not see that
                inputs = moved(self._decoder.inputs(batch.samples.columns), self._device)
                untouched = _versions(inputs)

    def _show_to(self, saying: _Saying, batch: Batch, inputs: Inputs) -> None:
        rows = saying.viewer.task.rows(batch.places)
        keys = batch.samples.keys[rows]
        if not len(keys):
            return
        if len(keys) < len(batch):
            inputs = _selected(inputs, rows)
        try:
            with torch.inference_mode():
                scores = class_scores(saying.viewer.module(inputs), len(keys))
                predictions = predicted_classes(scores)
        except Exception as error:  # noqa: BLE001 - what a model raises is what came of it
            saying.failed = _Failed(error, inputs)
        else:
            saying.parts.append(Said(keys, predictions, scores if self._keep_scores else None))


def is_reentrant(module: torch.nn.Module) -> bool:
    """Whether several threads may predict with it at the same time.

    That is known of our own modules and torch's; code of users may keep anything between two calls.

    >>> is_reentrant(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    True
    """
    return all(
        type(part).__module__.startswith(_REENTRANT)
        and not part._forward_hooks
        and not part._forward_pre_hooks
        and "forward" not in vars(part)
        and getattr(part, "max_norm", None) is None  # embeddings with one change their weights as they look them up
        for part in module.modules()
    )


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


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """Inputs on the device of the model."""
    if device.type == "cpu":
        return inputs
    if isinstance(inputs, dict):
        return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    return inputs.to(device, non_blocking=True)


def _versions(inputs: Inputs) -> list[int]:
    """Counts of the in-place changes made to the tensors so far."""
    return [tensor._version for tensor in (inputs.values() if isinstance(inputs, dict) else [inputs])]


def _selected(inputs: Inputs, rows: slice | Int64Array) -> Inputs:
    """Rows of a batch; a view where they are one run."""
    if isinstance(inputs, dict):
        return {name: _rows(tensor, rows) for name, tensor in inputs.items()}
    return _rows(inputs, rows)


def _rows(tensor: torch.Tensor, rows: slice | Int64Array) -> torch.Tensor:
    if isinstance(rows, slice):
        return tensor[rows]
    return tensor[torch.from_numpy(rows).to(tensor.device)]
