"""The prediction job: every sample is read and decoded once, and shown once to each model that needs it.

A sample's scores can depend in their last bits on which samples share its batch, because kernels differ by batch
size. Batches are therefore a function of the job's description alone, as long as no sample of it is deleted.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from modyn.core.alignment import positions_in
from modyn.core.arrow import Int64Array, decode_batch
from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.digests import digest_file
from modyn.core.errors import InvalidInputError
from modyn.core.files import fsync_file
from modyn.core.keysets import KeySet
from modyn.core.out_of_memory import memory_guard
from modyn.core.rpc import connect
from modyn.core.values import from_value
from modyn.evaluator.inference import Inputs, ModelFailedError, ModelLoader, ModelRun, OutcomeBuffer
from modyn.evaluator.plan import ModelTask
from modyn.models.decoding import Decoder
from modyn.proto.evaluator_pb2 import (
    CheckEvaluationRequest,
    EvaluateFailure,
    EvaluateProgress,
    ObserveSession,
    PredictedLabels,
    PredictedModel,
    PredictEvent,
    PredictJob,
    PredictResult,
)
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import SampleBatch, read_samples

PROGRESS_SECONDS = 0.2
"""Pause between two progress events."""

Emit = Callable[[bytes], None]
Send = Callable[[PredictEvent], None]
Decode = Callable[[Mapping[str, pa.Array]], Inputs]
Placed = tuple[SampleBatch, slice | Int64Array]


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: predicts as a serialised :class:`PredictJob` says and emits :class:`PredictEvent` messages.

    A model that fails is reported and left out; whatever keeps all of them from working is raised.

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
        send(PredictEvent(labels=PredictedLabels(classes=transformed_classes(decoder, job.labels))))
    result = PredictResult()
    if job.tasks:
        section = parse_section(ModelSection, from_value(job.model), "model")
        with connect(job.storage_address) as channel:
            stub = StorageStub(channel)
            with memory_guard(str(device), "evaluation.datasets[].batch_size", job.batch_size):
                result = _predict(job, stub, decoder, ModelLoader(section, root, stub, device, job.seed), send)
    send(PredictEvent(result=result))


def _predict(job: PredictJob, stub: StorageStub, decoder: Decoder, load: ModelLoader, send: Send) -> PredictResult:
    begin = time.perf_counter()
    output = OutcomeBuffer(Path(job.output), keep_scores=job.keep_scores)
    runs = [ModelRun(ModelTask.from_proto(task), load, output) for task in job.tasks]

    def decode(columns: Mapping[str, pa.Array]) -> Inputs:
        return moved(decoder.inputs(columns), load.device)

    keys = KeySet.from_proto(job.keys)
    samples = read_samples(stub, job.dataset, keys, batch_size=job.batch_size, columns=decoder.columns)
    _show_all(_placed(samples, keys.to_array()), decode, runs, send)
    output.close()
    # A model of which all samples were deleted meanwhile has said nothing.
    finished = [
        PredictedModel(model=run.task.model, num_samples=run.num_predicted) for run in runs if run.num_predicted
    ]
    file = ""
    if finished:
        fsync_file(Path(job.output))
        file = digest_file(Path(job.output))
    return PredictResult(file=file, seconds=time.perf_counter() - begin, models=finished)


def _placed(samples: Iterator[SampleBatch], keys: Int64Array) -> Iterator[Placed]:
    """Batches with the positions of their samples among the job's keys; deleted samples are left out."""
    position = 0
    for batch in samples:
        if len(batch):
            places = positions_in(keys, batch.keys, position)
            position = places.stop if isinstance(places, slice) else int(places[-1]) + 1
            yield batch, places


def _show_all(
    samples: Iterator[tuple[SampleBatch, slice | Int64Array]], decode: Decode, runs: list[ModelRun], send: Send
) -> None:
    """Shows every sample to every model that needs it; models that fail are reported and removed from ``runs``."""
    total = sum(len(run.task) for run in runs)
    done, reported = 0, time.perf_counter()

    def fail(run: ModelRun, error: ModelFailedError) -> None:
        runs.remove(run)
        send(PredictEvent(failure=EvaluateFailure(model=run.task.model, message=str(error))))

    for batch, places in samples:
        inputs = decode(batch.columns)
        untouched = _versions(inputs)
        for run in list(runs):
            try:
                done += run.see(inputs, batch.keys, places)
            except ModelFailedError as error:
                fail(run, error)
            if _versions(inputs) != untouched:  # the model worked in place; the next one must not see that
                inputs = decode(batch.columns)
                untouched = _versions(inputs)
        if not runs:
            break
        if time.perf_counter() - reported > PROGRESS_SECONDS:
            reported = time.perf_counter()
            send(PredictEvent(progress=EvaluateProgress(samples=done, total=total)))
    for run in list(runs):
        try:
            run.finish()
        except ModelFailedError as error:
            fail(run, error)
    send(PredictEvent(progress=EvaluateProgress(samples=done, total=total)))


def transformed_classes(decoder: Decoder, labels: bytes) -> bytes:
    """Labels as the label transformer makes them, packed int64."""
    column = decode_batch(labels).column(0)
    classes = decoder.labels(column)
    if classes.ndim != 1 or classes.is_floating_point() or classes.is_complex():
        raise InvalidInputError(
            f"label_transformer_function returned {classes.dtype} of shape {list(classes.shape)} for {len(column)} "
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
    # Not torch.manual_seed: without a GPU, it notes a stack trace for later, which takes a millisecond.
    torch.default_generator.manual_seed(seed % 2**32)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed % 2**32)


def _versions(inputs: Inputs) -> list[int]:
    """Counts of the in-place changes made to the tensors so far."""
    return [tensor._version for tensor in (inputs.values() if isinstance(inputs, dict) else [inputs])]


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """A batch on the device of the model."""
    if device.type == "cpu":
        return inputs
    if isinstance(inputs, dict):
        return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    return inputs.to(device, non_blocking=True)
