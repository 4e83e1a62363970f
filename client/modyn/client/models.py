"""Models that were trained, and the samples that they were really trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modyn.core.arrow import concat_messages
from modyn.core.errors import InvalidInputError
from modyn.core.files import atomic_path
from modyn.core.peers import Peers
from modyn.core.rpc import arrow_stream
from modyn.proto.selector_pb2 import ReadTrainingSetRequest
from modyn.proto.trainer_server_pb2 import (
    DescribeModelRequest,
    DownsamplingResult,
    ListModelsRequest,
    ModelDescription,
    TrainResult,
    TriggerRef,
)
from modyn.selector.reader import read_sample_columns

FIRST_KEYS = 5
"""How many keys of an epoch a summary names."""

KEY_FILES = (".parquet", ".csv")

NUMBERS = (
    "num_samples",
    "samples_trained",
    "epochs",
    "batches",
    "final_loss",
    "train_seconds",
    "store_seconds",
    "job_seconds",
)


@dataclass(frozen=True)
class EpochSummary:
    """What a model was trained on from an epoch on, until the next one that is listed.

    Attributes:
        epoch: 0, 1, 2 …; -1: what only auxiliary models were trained on.
        num_samples: rows; a sample that was trained twice counts twice.
        weight_sum, weight_min, weight_max: of the weights of their losses.
        first_keys: the first few keys.
    """

    epoch: int
    num_samples: int
    weight_sum: float
    weight_min: float
    weight_max: float
    first_keys: tuple[int, ...]


def list_models(peers: Peers, pipeline_id: str | None) -> list[ModelDescription]:
    """See :meth:`modyn.client.Client.models`."""
    return list(peers.trainer_server.ListModels(ListModelsRequest(pipeline_id=pipeline_id)))


def describe_model(peers: Peers, reference: str) -> ModelDescription:
    """See :meth:`modyn.client.Client.model`."""
    pipeline_id, colon, trigger = reference.rpartition(":")
    if not colon:
        return peers.trainer_server.DescribeModel(DescribeModelRequest(model=reference))
    if not pipeline_id or not trigger.isdecimal() or int(trigger) >= 1 << 63:
        raise InvalidInputError(
            f"model {reference!r}: expected a digest or how it begins, or a pipeline's id and a trigger such as 3:0"
        )
    ref = TriggerRef(pipeline_id=pipeline_id, trigger_index=int(trigger))
    return peers.trainer_server.DescribeModel(DescribeModelRequest(trigger=ref))


def trained_samples(peers: Peers, model: ModelDescription) -> pa.Table:
    """See :meth:`modyn.client.Client.trained_samples`."""
    if model.HasField("trained"):
        return read_sample_columns(peers.selector, model.trained)
    # Its job trained on the whole set in every epoch.
    stream = peers.selector.ReadTrainingSet(ReadTrainingSetRequest(digest=model.training_set))
    found = concat_messages(arrow_stream(stream))
    if found is None:
        found = pa.table({"key": pa.array([], pa.int64()), "weight": pa.array([], pa.float32())})
    epochs = pa.array(np.zeros(found.num_rows, np.int32))
    return pa.table({"epoch": epochs, "key": found["key"], "weight": found["weight"]})


def summarise(samples: pa.Table) -> list[EpochSummary]:
    """The epochs of :func:`trained_samples`, a line each.

    >>> summarise(pa.table({"epoch": [0, 0, 2], "key": [4, 7, 7], "weight": [1.0, 0.5, 1.0]}))[0]
    EpochSummary(epoch=0, num_samples=2, weight_sum=1.5, weight_min=0.5, weight_max=1.0, first_keys=(4, 7))
    """
    epochs, keys, weights = (samples[name].to_numpy() for name in ("epoch", "key", "weight"))
    found, starts = np.unique(epochs, return_index=True)
    ends = np.append(starts, len(epochs))[1:]
    return [
        EpochSummary(
            epoch=epoch,
            num_samples=end - start,
            weight_sum=float(weights[start:end].sum(dtype=np.float64)),
            weight_min=float(weights[start:end].min()),
            weight_max=float(weights[start:end].max()),
            first_keys=tuple(keys[start : min(end, start + FIRST_KEYS)].tolist()),
        )
        for epoch, start, end in zip(found.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]


def model_json(model: ModelDescription, epochs: list[EpochSummary] | None = None) -> dict[str, Any]:
    """A model as plain values; what is not known is null."""
    document: dict[str, Any] = {
        "model": model.model,
        "dataset": model.dataset,
        "training_set": model.training_set,
        "trained": model.trained if model.HasField("trained") else None,
        "initial_model": model.initial_model if model.HasField("initial_model") else None,
        "uses": [{"pipeline_id": u.pipeline_id, "trigger": u.trigger_index, "reused": u.reused} for u in model.uses],
        "trained_at": model.trained_at,
        "training": _numbers(model.result) if model.HasField("result") else None,
    }
    if epochs is not None:
        document["samples"] = [asdict(epoch) for epoch in epochs]
    return document


def check_key_file(path: Path) -> None:
    """
    Raises:
        InvalidInputError: keys cannot be written to a file of this kind.
    """
    if path.suffix.lower() not in KEY_FILES:
        raise InvalidInputError(f"--keys {path}: unknown kind of file; expected {' or '.join(KEY_FILES)}")


def write_keys(path: Path, samples: pa.Table) -> None:
    """Writes the record of :func:`trained_samples` as Parquet or CSV, whole or not at all."""
    check_key_file(path)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            from pyarrow import csv

            csv.write_csv(samples, temporary)
        else:
            from pyarrow import parquet

            parquet.write_table(samples, temporary)


def _numbers(result: TrainResult) -> dict[str, Any]:
    numbers: dict[str, Any] = {name: getattr(result, name) for name in NUMBERS}
    if not result.HasField("final_loss"):
        numbers["final_loss"] = None
    numbers["epoch_losses"] = list(result.epoch_losses)
    numbers["downsampling"] = _downsampling(result.downsampling) if result.HasField("downsampling") else None
    return numbers


def _downsampling(result: DownsamplingResult) -> dict[str, Any]:
    """Every field by its name; digests that are not there are null."""
    document: dict[str, Any] = {}
    for field in result.DESCRIPTOR.fields:
        value = getattr(result, field.name)
        if isinstance(value, int | float):
            document[field.name] = value
        elif isinstance(value, str):
            document[field.name] = value or None
        else:
            document[field.name] = list(value)
    return document
