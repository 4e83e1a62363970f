"""The job behind a check: one batch of real data through everything that a training would do; nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import DataSection, ModelSection, TrainingSection
from modyn.core.config.problems import parse_section
from modyn.core.draws import Draws
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.core.peers import Addresses, Peers
from modyn.core.randomness import Purpose
from modyn.core.values import from_value
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.proto.storage_pb2 import TRAINING
from modyn.proto.trainer_server_pb2 import CheckResult, TensorShape, TrainJob
from modyn.storage.reader import SampleBatch, read_samples
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.compiling import compiled
from modyn.trainer_server.loop import Setup, forward, tell, train_batch
from modyn.trainer_server.parallel import ALONE
from modyn.trainer_server.progress import Emit, Progress
from modyn.trainer_server.resuming import Position
from modyn.trainer_server.runtime import configure, seed_everything
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.steps import OwnStep
from modyn.trainer_server.warm_start import NewClasses, begin_with

PRETENDED_BATCHES = 100
"""Length of the training that learning-rate schedules are built for."""


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: checks what a serialised :class:`TrainJob` says and emits one :class:`CheckResult`.

    Raises:
        ModynError: what the training would fail with.
    """
    emit(check(TrainJob.FromString(payload)).SerializeToString())


def check(job: TrainJob) -> CheckResult:
    """One batch through parser, model, loss, backward pass and optimizer step of a model that is thrown away."""
    began = time.perf_counter()
    request = job.request
    root = request.code.root if request.code.HasField("root") else None
    section = parse_section(TrainingSection, from_value(request.training), "training")
    data = parse_section(DataSection, from_value(request.data), "data")
    device = configure(section.device, job.threads)
    peers = Peers(Addresses(job.storage_address, job.selector_address, "", "", ""))
    decoder = Decoder(data, root)
    keys = KeySet.from_proto(job.check.keys)
    with ThreadPoolExecutor(1) as background:
        reading = background.submit(_read, request.dataset, keys, peers, decoder)
        seed_everything(request.seed, Purpose.MODEL_INIT, request.trigger_index)
        model = build_model(parse_section(ModelSection, from_value(request.model), "model"), root)
        begin_with(model, section, request, peers)
        samples = reading.result()
    if samples is not None:
        NewClasses(section, peers, request.dataset, keys, decoder, None).make_room(model)
    if section.compile is not None:
        compiled(model, section.compile)  # its options; compiling itself would take seconds
    alone = section.model_copy(update={"compile": None, "gradient_accumulation": 1})
    setup = Setup.build(
        model,
        alone,
        Schedule.of(PRETENDED_BATCHES * section.batch_size, section, None),
        device,
        root=root,
        step=OwnStep.of(request, section, peers=peers, decoder=decoder, device=device, parallel=ALONE, labels=None),
    )
    result = CheckResult(num_parameters=sum(parameter.numel() for parameter in model.parameters()))
    if samples is None:
        result.notices.append("there are no samples yet; model, loss and optimizers were built, and nothing was tried")
    else:
        _try(samples, decoder, setup, job, result)
    result.seconds = time.perf_counter() - began
    return result


def _read(dataset: str, keys: KeySet, peers: Peers, decoder: Decoder) -> SampleBatch | None:
    """One batch; None if nothing of it is there."""
    size, columns = max(1, len(keys)), decoder.columns
    batches = read_samples(peers.storage, dataset, keys, batch_size=size, columns=columns, purpose=TRAINING)
    return next((batch for batch in batches if len(batch)), None)


def _try(samples: SampleBatch, decoder: Decoder, setup: Setup, job: TrainJob, result: CheckResult) -> None:
    request = job.request
    seed_everything(request.seed, Purpose.TRAINING, request.trigger_index)
    rows = np.flatnonzero(samples.labels.is_valid().to_numpy(zero_copy_only=False))
    result.num_samples = labelled = len(rows)
    if not labelled:
        result.notices.append("no sample of the batch has a label yet; loss and optimizer step were not tried")
        rows = np.arange(len(samples))
    if len(rows) == 1:  # statistics of a batch need two
        rows = np.repeat(rows, 2)
    draws = Draws(request.seed, request.trigger_index, 0, samples.keys[rows])
    batch = _batch(samples, rows, decoder, draws, labelled=labelled > 0)
    setup.model.train()
    progress = Progress(lambda _: None)
    tell(setup, progress, "on_begin", 0)
    with _caught(setup.model, result):
        if not labelled:
            forward(setup, batch)
            return
        trained = train_batch(setup, batch, progress, Position(0, 0))
        tell(setup, progress, "on_batch_end", 0, trained.loss)
    result.labels_dtype = _dtype(batch.labels)
    result.labels_shape.extend(batch.labels.shape)
    result.loss = float(trained.loss.item())
    if not np.isfinite(result.loss):
        raise InvalidInputError(
            f"the loss of the first batch is {result.loss}; look for missing or huge values in the inputs, or for "
            "labels that training.optimization_criterion does not take"
        )
    tell(setup, progress, "on_epoch_end", 0, result.loss)  # but not on_end: nothing was trained


def _batch(samples: SampleBatch, rows: Int64Array, decoder: Decoder, draws: Draws, *, labelled: bool) -> Batch:
    """Some of the samples as the loop would get them; without labels, zeros stand for them."""
    keys = samples.keys[rows]
    try:
        inputs = decoder.inputs({name: array.take(rows) for name, array in samples.columns.items()}, draws, 0)
        labels = decoder.labels(samples.labels.take(rows)) if labelled else torch.zeros(len(rows), dtype=torch.int64)
    except ModynError as error:
        raise type(error)(f"{error.message} (in the batch that starts with sample key {keys[0]})") from error
    return Batch(keys, inputs, labels, None)


@contextmanager
def _caught(model: torch.nn.Module, result: CheckResult) -> Iterator[None]:
    """Within the block, the first call of the model leaves the shapes of its inputs and outputs in the result."""

    def catch(_: torch.nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if not result.outputs:
            result.inputs.extend(shapes(arguments[0] if len(arguments) == 1 else arguments))
            result.outputs.extend(shapes(output))

    handle = model.register_forward_hook(catch)
    try:
        yield
    finally:
        handle.remove()


def shapes(value: object, name: str = "") -> Iterator[TensorShape]:
    """Type and shape of all tensors in a model's inputs or outputs, with the batch dimension.

    >>> [(part.name, part.dtype, list(part.shape)) for part in shapes({"x": torch.zeros(2, 3)})]
    [('x', 'float32', [2, 3])]
    """
    if isinstance(value, torch.Tensor):
        yield TensorShape(name=name, dtype=_dtype(value), shape=value.shape)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from shapes(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            yield from shapes(part, f"{name}.{position}" if name else str(position))


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
