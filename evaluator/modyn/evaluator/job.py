"""The prediction job: every sample is read and decoded once, and shown once to each model that needs it.

A sample's scores can depend in their last bits on which samples share its batch, because kernels differ by batch
size. Batches are therefore a function of the job's description alone, as long as no sample of it is deleted or
damaged; and what was predicted before a job is killed ends where a batch does, so that the next one goes on with the
same batches.
"""

from __future__ import annotations

import os
import random
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager

import numpy as np
import torch

from modyn.core.arrow import Int64Array, decode_batch
from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import InvalidInputError, JobFailedError
from modyn.core.keysets import KeySet
from modyn.core.out_of_memory import memory_guard
from modyn.core.rpc import connect
from modyn.core.values import from_value
from modyn.evaluator.forwarding import Failed, Forwarding, ModelFailedError, Shown, Viewer
from modyn.evaluator.inference import ModelLoader, ModelRun, seed_torch
from modyn.evaluator.isolating import Isolation, Stretch
from modyn.evaluator.parts import OutcomeParts, Send
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.reading import Batch, Block, Decoding, Lost, SampleReader
from modyn.models.decoding import Decoder
from modyn.proto.evaluator_pb2 import (
    CheckEvaluationRequest,
    EvaluateFailure,
    EvaluateProgress,
    LostSamples,
    ObserveSession,
    PredictedLabels,
    PredictedModel,
    PredictEvent,
    PredictJob,
    PredictResult,
)
from modyn.proto.storage_pb2_grpc import StorageStub

PROGRESS_SECONDS = 0.2
"""Pause between two progress events."""

Emit = Callable[[bytes], None]


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: predicts as a serialised :class:`PredictJob` says and emits :class:`PredictEvent` messages.

    A model that fails is reported and left out, samples that cannot be read or decoded too; whatever keeps all of them
    from working is raised.

    Raises:
        ModynError: what went wrong, for the user.
    """
    job = PredictJob.FromString(payload)
    root = job.code.root if job.code.HasField("root") else None
    device = configure(job)
    decoder = Decoder(parse_section(DataSection, from_value(job.data), "evaluation dataset"), root)

    def send(event: PredictEvent) -> None:
        emit(event.SerializeToString())

    if job.HasField("labels"):
        send(PredictEvent(labels=_transformed(decoder, job)))
    if job.tasks:
        section = parse_section(ModelSection, from_value(job.model), "model")
        with connect(job.storage_address) as channel:
            stub = StorageStub(channel)
            with _memory_guard(device, job.batch_size):
                Showing(job, stub, decoder, ModelLoader(section, root, stub, device, job.seed), send).run()
    send(PredictEvent(result=PredictResult()))


class Showing:
    """Shows every sample to every model that needs it; models that fail are reported and left out from then on."""

    def __init__(self, job: PredictJob, stub: StorageStub, decoder: Decoder, load: ModelLoader, send: Send) -> None:
        self._send = send
        self._decoder = decoder
        self._device = load.device
        self._batch_size = job.batch_size
        self._keys = KeySet.from_proto(job.keys).to_array()
        self._decoding = Decoding(decoder.inputs)
        self._forwarding = Forwarding(
            decoder, load.device, batch_size=job.batch_size, threads=job.threads, keep_scores=job.keep_scores
        )
        self._viewing: deque[list[ModelRun]] = deque()
        """Who sees the samples that models still work on."""
        self._reader = SampleReader(stub, job.dataset, self._keys, batch_size=job.batch_size, decoder=decoder)
        self._parts = OutcomeParts(job.output, keep_scores=job.keep_scores, seconds=job.part_seconds, send=send)
        self._runs = [ModelRun(ModelTask.from_proto(task), load, self._parts) for task in job.tasks]
        self._starts = sorted(run.task.start for run in self._runs)
        self._ends = sorted(run.task.end for run in self._runs)
        self._total = sum(len(run.task) for run in self._runs)
        self._done = 0
        self._reported = time.perf_counter()

    def run(self) -> None:
        """Until all samples were shown, or all models failed.

        Raises:
            ModynError: what has to do with no single model or sample.
        """
        with closing(self._reader.blocks()) as blocks, closing(self._forwarding):
            self._load()
            if self._runs:
                self._show_all(blocks)
            self._take_all(self._forwarding.rest())
        for run in list(self._runs):
            with self._leaving_out(run):
                run.finish()
        self._close_part()
        self._send_progress()

    def _load(self) -> None:
        for run in list(self._runs):
            with self._leaving_out(run):
                run.load()
        self._forwarding.see_modules([run.module for run in self._runs if run.module is not None])
        if self._forwarding.decodes:
            self._reader.decodes = False

    def _show_all(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._parts.bytes_read += block.bytes_read
            self._report(block.lost)
            for batch in self._steps(block):
                self._parts.samples_read += len(batch)
                ready = batch if self._forwarding.decodes else self._decoded(batch)
                if ready is not None:
                    self._show(ready)
                if self._parts.is_due:
                    self._take_all(self._forwarding.rest())
                    self._close_part()
                if not self._runs or self._decoding.is_hopeless:
                    return

    def _steps(self, block: Block) -> Iterator[Batch]:
        """What is shown at once: whole batches.

        A step begins where a model is needed for the first time and ends where one is for the last time, so that few
        are loaded at the same time.
        """
        whole, size = block.whole, self._batch_size
        if whole is None:
            return
        if not self._forwarding.decodes:
            yield from whole.cut(size)
            return
        first = 0
        while first < len(whole):
            end = first + size
            while end < len(whole) and end - first < self._forwarding.step and not self._changes(whole, end):
                end += size
            yield whole.part(first, min(end, len(whole)) - first)
            first = end

    def _changes(self, whole: Batch, row: int) -> bool:
        """Whether a model needs something of the batch before a row and nothing after it, or something of the one that
        begins there and nothing before."""
        size = self._batch_size
        last = bisect_right(self._ends, whole.position(row - size))
        if last < len(self._ends) and self._ends[last] <= whole.position(row - 1) + 1:
            return True
        first = bisect_left(self._starts, whole.position(row))
        return first < len(self._starts) and self._starts[first] <= whole.position(min(row + size, len(whole)) - 1)

    def _show(self, batch: Batch) -> None:
        viewing, viewers = self._viewers(batch)
        self._viewing.append(viewing)
        self._take_all(self._forwarding.show(batch, viewers))
        if time.perf_counter() - self._reported > PROGRESS_SECONDS:
            self._send_progress()

    def _viewers(self, batch: Batch) -> tuple[list[ModelRun], list[Viewer]]:
        """Who needs any of some samples."""
        viewing: list[ModelRun] = []
        viewers: list[Viewer] = []
        for run in list(self._runs):
            with self._leaving_out(run):
                if (viewer := run.viewer(batch)) is not None:
                    viewing.append(run)
                    viewers.append(viewer)
        return viewing, viewers

    def _take_all(self, batches: Iterable[Shown]) -> None:
        for shown in batches:
            if self._decoding.is_hopeless:  # its samples are reported already
                return
            self._take(shown, self._viewing.popleft())

    def _take(self, shown: Shown, viewing: Sequence[ModelRun]) -> None:
        if shown.outcomes is None:
            self._take_decodable(shown.batch)
            return
        self._decoding.worked()
        for run, outcome in zip(viewing, shown.outcomes, strict=True):
            if run in self._runs:  # it has not failed meanwhile
                with self._leaving_out(run):
                    said = self._forwarding.explained(outcome) if isinstance(outcome, Failed) else outcome
                    self._done += run.take(said)
        for run in list(self._runs):
            with self._leaving_out(run):
                run.passed(shown.batch.end)

    def _take_decodable(self, batches: Batch) -> None:
        """Shows what can be decoded of samples of which some cannot."""
        for batch in batches.cut(self._batch_size):
            if (decoded := self._decoded(batch)) is not None:
                viewing, viewers = self._viewers(decoded)
                self._take(self._forwarding.show_now(decoded, viewers), viewing)
            if self._decoding.is_hopeless:
                return

    def _decoded(self, batch: Batch) -> Batch | None:
        """Without samples that cannot be; None if none can."""
        decoded, lost = self._decoding.inputs(batch)
        self._report(lost)
        if self._decoding.is_hopeless:
            self._report([Lost(self._keys[batch.end :], lost[-1].error)])
        return decoded

    def _close_part(self) -> None:
        models: list[PredictedModel] = []
        for run in list(self._runs):
            with self._leaving_out(run):
                count = run.flush()
                if count:  # else it was not its turn, or all of its samples were deleted meanwhile
                    models.append(PredictedModel(model=run.task.model, num_samples=count))
        self._parts.close(models)

    @contextmanager
    def _leaving_out(self, run: ModelRun) -> Iterator[None]:
        """A model that fails, or needs more memory than there is, is reported and left out from then on."""
        try:
            with _memory_guard(self._device, self._batch_size):
                yield
        except (ModelFailedError, JobFailedError) as error:
            self._runs.remove(run)
            self._send(PredictEvent(failure=EvaluateFailure(model=run.task.model, message=str(error))))

    def _report(self, lost: Sequence[Lost]) -> None:
        for part in lost:
            keys = part.keys.astype("<i8", copy=False).tobytes()
            event = LostSamples(keys=keys, error=type(part.error).__name__, reason=part.error.message)
            self._send(PredictEvent(lost=event))

    def _send_progress(self) -> None:
        self._reported = time.perf_counter()
        self._send(PredictEvent(progress=EvaluateProgress(samples=self._done, total=self._total)))


def _memory_guard(device: torch.device, batch_size: int) -> AbstractContextManager[None]:
    return memory_guard(str(device), "evaluation.datasets[].batch_size", batch_size)


def _transformed(decoder: Decoder, job: PredictJob) -> PredictedLabels:
    """Labels as the label transformer makes them, but for those that it raises at.

    Raises:
        InvalidInputError: it raises at all of them, or makes what metrics cannot take.
    """
    column = decode_batch(job.labels).column(0)

    def transform(start: int, end: int) -> torch.Tensor:
        return decoder.labels(column.slice(start, end - start))

    found = list(Isolation().stretches(0, len(column), transform))
    made = [part.value for part in found if part.value is not None]
    if not made:
        assert found[0].error is not None
        raise found[0].error
    whole = torch.cat(_filled(found, made[0]))
    answer = PredictedLabels(failed=_positions(found).astype("<i8", copy=False).tobytes())
    if (failed := next((part.error for part in found if part.error is not None), None)) is not None:
        answer.reason = failed.message
    if job.label_classes:
        answer.classes = _packed_classes(whole)
    if job.label_numbers:
        table = whole.reshape(len(whole), -1).to(torch.float64)
        answer.width = table.shape[1]
        answer.numbers = table.numpy().astype("<f8", copy=False).tobytes()
    return answer


def _filled(found: Sequence[Stretch[torch.Tensor]], like: torch.Tensor) -> list[torch.Tensor]:
    """Zeros where there is nothing."""
    return [
        like.new_zeros((part.end - part.start, *like.shape[1:])) if part.value is None else part.value for part in found
    ]


def _positions(found: Sequence[Stretch[torch.Tensor]]) -> Int64Array:
    bad = [np.arange(part.start, part.end, dtype=np.int64) for part in found if part.error is not None]
    return np.concatenate(bad) if bad else np.empty(0, dtype=np.int64)


def transformed_classes(decoder: Decoder, labels: bytes) -> bytes:
    """Labels as the label transformer makes them, packed int64.

    Raises:
        InvalidInputError: it raises, or makes no classes.
    """
    return _packed_classes(decoder.labels(decode_batch(labels).column(0)))


def _packed_classes(classes: torch.Tensor) -> bytes:
    if classes.ndim != 1 or classes.is_floating_point() or classes.is_complex():
        raise InvalidInputError(
            f"label_transformer_function returned {classes.dtype} of shape {list(classes.shape)} for {len(classes)} "
            "labels; classification metrics need one integer class a sample"
        )
    return classes.to(torch.int64).numpy().astype("<i8", copy=False).tobytes()


def configure(job: PredictJob | ObserveSession | CheckEvaluationRequest) -> torch.device:
    """Fixes what must not vary between two runs of the same job; where it computes.

    Raises:
        InvalidInputError: there is no such device.
    """
    torch.set_num_threads(job.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    device = torch.device(job.device)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InvalidInputError(f"evaluation.device: {job.device}: {count} CUDA devices can be used here; use cpu")
    seed_all(job.seed, device)
    return device


def seed_all(seed: int, device: torch.device) -> None:
    """For whatever user code draws."""
    random.seed(seed % 2**32)
    np.random.seed(seed % 2**32)
    seed_torch(seed, device)
