"""Showing samples to models: in turn, or two batches at once where that is safe.

The kernels of a small batch are short. Threads that share one wait for each other twice a layer, and all of them wait
while Python is between two; on busy cores that costs more than the sharing gains. So half of the threads work on one
batch and half on another. They decode what they show, too, which is then still in their caches. Where the memory of two
batches is more than there is, one is shown at a time from then on.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from inspect import isfunction

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
"""Batches that a thread takes on at once, at most: fetching and telling then cost little beside showing them."""

STEP_BYTES = 8 << 20
"""Outcomes of a step, at most, but for one batch that has more."""

_REENTRANT = ("torch.nn.modules.", "modyn.models.modules.")
"""Where classes of modules are from whose forward pass leaves nothing behind when they only predict."""

_DRAWING = (torch.nn.FractionalMaxPool2d, torch.nn.FractionalMaxPool3d)
"""But for these, which draw random numbers even then."""


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
class Failed:
    """What a module raised.

    Attributes:
        inputs: at which it did.
        trace: of the error; what that refers to is not kept.
    """

    module: torch.nn.Module
    error: Exception
    inputs: Inputs
    trace: str

    @property
    def out_of_memory(self) -> bool:
        """Whether it needed more than there was."""
        return out_of_memory(self.error) is not None


Outcome = list[Said] | Failed
"""What a model said, batch by batch, or why it could not."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Samples that were shown.

    Attributes:
        outcomes: one for each viewer; None: not all samples can be decoded.
    """

    batch: Batch
    outcomes: Sequence[Outcome] | None


@dataclass(frozen=True, eq=False)
class _Work:
    batch: Batch
    viewers: Sequence[Viewer]


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
        self._alone = False
        self._largest: int | None = None
        self._under_way: deque[tuple[_Work, Future[list[Outcome] | None]]] = deque()

    @property
    def step(self) -> int:
        """Samples that are best shown at once."""
        if not self.decodes or self._largest is None:
            return self._batch_size
        return self._batch_size * max(1, min(STEP_BATCHES, STEP_BYTES // max(self._largest, 1)))

    def see_modules(self, modules: Sequence[torch.nn.Module]) -> None:
        """Decides how to work, by models that are like all others; once, before anything is shown."""
        # Code of users, in a model or a parser, may keep anything between two calls.
        safe = self._decoder.parses_batches and self._device.type == "cpu" and all(map(is_reentrant, modules))
        if modules and safe and self._threads >= AT_ONCE:
            torch.set_num_threads(self._threads // AT_ONCE)  # threads that begin from now on take this as theirs
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="forward")
            self.decodes = True

    def show(self, batch: Batch, viewers: Sequence[Viewer]) -> Iterator[Shown]:
        """Shows samples; what is known by now, of these and those before.

        Args:
            viewers: each needs at least one of the samples.
        """
        work = _Work(batch, viewers)
        if self._pool is None or self._alone:
            yield from self.rest()
            yield Shown(batch, self._outcomes(work))
            return
        self._under_way.append((work, self._pool.submit(self._outcomes, work)))
        while len(self._under_way) > AT_ONCE:  # one waits, so that no thread has to
            yield self._next()

    def show_now(self, batch: Batch, viewers: Sequence[Viewer]) -> Shown:
        """Shows samples, whatever else is under way."""
        return Shown(batch, self._outcomes(_Work(batch, viewers)))

    def rest(self) -> Iterator[Shown]:
        """What is not told yet, of all that was shown."""
        while self._under_way:
            yield self._next()

    def explained(self, failed: Failed) -> Exception:
        """The error of a model, which names its layer where it may be to blame.

        The model is run once more for that, so it must be at nothing else meanwhile.
        """
        error = failed.error
        if isinstance(error, ModynError) or failed.out_of_memory:
            return error
        self._wait()
        sys.stderr.write(failed.trace)
        with torch.inference_mode():
            layer = failed_layer(failed.module, failed.inputs)
        where = "" if layer is None else f"; {layer}"
        explained = ModelFailedError(f"its forward pass raised {describe_error(error)}{where}")
        explained.__cause__ = error
        return explained

    def close(self) -> None:
        """Nothing is worked on any more; what is not told yet is forgotten."""
        if self._pool is not None:
            self._under_way.clear()
            self._pool.shutdown(cancel_futures=True)

    def _next(self) -> Shown:
        work, future = self._under_way.popleft()
        outcomes = future.result()
        if any(isinstance(outcome, Failed) and outcome.out_of_memory for outcome in outcomes or ()):
            self._alone = True
            self._wait()
            del future, outcomes
            return Shown(work.batch, self._outcomes(work))
        for outcome in outcomes or ():
            if isinstance(outcome, list):
                largest = sum(said.nbytes for said in outcome) // max(1, len(outcome)) * len(work.viewers)
                self._largest = max(self._largest or 0, largest)
        return Shown(work.batch, outcomes)

    def _wait(self) -> None:
        wait([future for _, future in self._under_way])

    def _outcomes(self, work: _Work) -> list[Outcome] | None:
        outcomes: list[Outcome] = [[] for _ in work.viewers]
        for batch in work.batch.cut(self._batch_size):
            inputs = batch.inputs
            if inputs is None:
                try:
                    inputs = self._decoder.inputs(batch.samples.columns)
                except ModynError as error:
                    if not is_about_samples(error):
                        raise
                    return None
            self._show_to_all(batch, moved(inputs, self._device), work.viewers, outcomes)
        return outcomes

    def _show_to_all(self, batch: Batch, inputs: Inputs, viewers: Sequence[Viewer], outcomes: list[Outcome]) -> None:
        untouched = _versions(inputs)
        for index, (viewer, outcome) in enumerate(zip(viewers, outcomes, strict=True)):
            if isinstance(outcome, list):
                outcomes[index] = self._show_to(viewer, batch, inputs, outcome)
            if _versions(inputs) != untouched:  # it worked in place; the next one must not see that
                inputs = moved(self._decoder.inputs(batch.samples.columns), self._device)
                untouched = _versions(inputs)

    def _show_to(self, viewer: Viewer, batch: Batch, inputs: Inputs, said: list[Said]) -> Outcome:
        rows = viewer.task.rows(batch.places)
        keys = batch.samples.keys[rows]
        if not len(keys):
            return said
        if len(keys) < len(batch):
            inputs = _selected(inputs, rows)
        try:
            with torch.inference_mode():
                scores = class_scores(viewer.module(inputs), len(keys))
                predictions = predicted_classes(scores)
        except Exception as error:  # noqa: BLE001 - what a model raises is what came of it
            trace = "".join(traceback.format_exception(error))
            traceback.clear_frames(error.__traceback__)  # the next model may need the memory of what this one made
            return Failed(viewer.module, error.with_traceback(None), inputs, trace)
        return [*said, Said(keys, predictions, scores if self._keep_scores else None)]


def is_reentrant(module: torch.nn.Module) -> bool:
    """Whether several threads may predict with it at the same time.

    That is known of our own modules and torch's; code of users may keep anything between two calls.

    >>> is_reentrant(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    True
    """
    return all(
        type(part).__module__.startswith(_REENTRANT)
        and not isinstance(part, _DRAWING)
        and part._compiled_call_impl is None
        and all(str(value.__module__).startswith("torch") for value in vars(part).values() if isfunction(value))
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
