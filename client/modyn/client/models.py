"""Models that were trained, and the samples that they were really trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modyn.client.garbage import RUNNING
from modyn.core.arrow import concat_messages
from modyn.core.errors import ConflictError, InvalidInputError, NotFoundError
from modyn.core.files import atomic_path
from modyn.core.peers import Peers
from modyn.core.rpc import arrow_stream
from modyn.proto.common_pb2 import ListReferencesRequest
from modyn.proto.selector_pb2 import ReadTrainingSetRequest
from modyn.proto.storage_pb2 import DeleteModelRequest, FetchModelRequest, ListStoredModelsRequest, StoredModel
from modyn.proto.supervisor_pb2 import ListPipelinesRequest
from modyn.proto.trainer_server_pb2 import (
    DescribeModelRequest,
    DownsamplingResult,
    ListModelsRequest,
    ModelDescription,
    Telemetry,
    TrainResult,
    TriggerRef,
)
from modyn.selector.reader import read_sample_columns

FIRST_KEYS = 5
"""How many keys of an epoch a summary names."""

NAMED_IN_ERRORS = 5
"""How many models an error about an ambiguous digest names."""

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


@dataclass(frozen=True)
class DeletedModel:
    """A model that was removed from storage.

    Attributes:
        digest: of the model.
        freed_bytes: won on disk; fewer than none where others had to be rewritten.
        rewritten: digests of models that were stored as differences from it, and are whole now.
    """

    digest: str
    freed_bytes: int
    rewritten: tuple[str, ...]


def list_models(peers: Peers, pipeline_id: str | None) -> list[ModelDescription]:
    """See :meth:`modyn.client.Client.models`."""
    return list(peers.trainer_server.ListModels(ListModelsRequest(pipeline_id=pipeline_id)))


def describe_model(peers: Peers, reference: str) -> ModelDescription:
    """See :meth:`modyn.client.Client.model`."""
    separator = "@" if "@" in reference else ":"
    pipeline_id, found, which = reference.rpartition(separator)
    if not found:
        return peers.trainer_server.DescribeModel(DescribeModelRequest(model=reference))
    is_index = which.isdecimal() and int(which) < 1 << 63
    if not pipeline_id or not (is_index or (separator == "@" and which == "latest")):
        raise InvalidInputError(
            f"model {reference!r}: expected a digest or how it begins, or a pipeline's id and a trigger such as 3:0 or "
            "3@0, or 3@latest"
        )
    index = int(which) if is_index else _latest_trigger(peers, pipeline_id)
    ref = TriggerRef(pipeline_id=pipeline_id, trigger_index=index)
    return peers.trainer_server.DescribeModel(DescribeModelRequest(trigger=ref))


def _latest_trigger(peers: Peers, pipeline_id: str) -> int:
    """The last trigger of a pipeline that has a model."""
    uses = [use for model in list_models(peers, pipeline_id) for use in model.uses if use.pipeline_id == pipeline_id]
    if not uses:
        raise NotFoundError(
            f"pipeline {pipeline_id} has no model; `modyn-client list` shows all pipelines, "
            "`modyn-client models list` all models"
        )
    return max(use.trigger_index for use in uses)


def stored_models(peers: Peers) -> dict[str, StoredModel]:
    """See :meth:`modyn.client.Client.stored_models`."""
    return {model.digest: model for model in peers.storage.ListStoredModels(ListStoredModelsRequest())}


def stored_digest(peers: Peers, reference: str) -> str:
    """Digest of the model that a reference names, as for :func:`describe_model`, or of one that lineage does not know.

    Raises:
        NotFoundError, InvalidInputError: there is none, or several.
    """
    try:
        return describe_model(peers, reference).model
    except NotFoundError:
        if not re.fullmatch("[0-9a-f]+", reference):
            raise
        found = [digest for digest in stored_models(peers) if digest.startswith(reference)]
        if not found:
            raise
        if len(found) > 1:
            raise InvalidInputError(
                f"model {reference!r}: several begin like that ({', '.join(found[:NAMED_IN_ERRORS])}); "
                "expected more of its digest"
            ) from None
        return found[0]


def delete_models(
    peers: Peers, references: Sequence[str], *, rewrite_dependents: bool = False, force: bool = False
) -> list[DeletedModel]:
    """See :meth:`modyn.client.Client.delete_models`."""
    wanted = dict.fromkeys(stored_digest(peers, reference) for reference in references)
    known = {digest: peers.storage.DescribeModel(FetchModelRequest(digest=digest)) for digest in wanted}
    if not force:
        _check_unneeded(peers, list(known))
    deleted: list[DeletedModel] = []
    # What is a difference from another of them first, so that this one has no dependents left.
    for digest in sorted(known, key=lambda digest: not known[digest].HasField("delta_of")):
        request = DeleteModelRequest(digest=digest, rewrite_dependents=rewrite_dependents)
        done = peers.storage.DeleteModel(request)
        deleted.append(DeletedModel(digest, done.freed_bytes, tuple(done.rewritten)))
    return deleted


def _check_unneeded(peers: Peers, digests: Sequence[str]) -> None:
    pipelines = peers.supervisor.ListPipelines(ListPipelinesRequest()).pipelines
    running = {pipeline.id for pipeline in pipelines if pipeline.status in RUNNING}
    if not running:
        return
    for service in (peers.supervisor, peers.trainer_server):
        for named in service.ListReferences(ListReferencesRequest()):
            if named.name in digests and named.pipeline_id in running:
                raise ConflictError(
                    f"model {named.name} belongs to pipeline {named.pipeline_id}, which is running and may need it; "
                    "stop that first, or delete it nevertheless (`modyn-client models delete --force`)"
                )


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


def model_json(
    model: ModelDescription, epochs: list[EpochSummary] | None = None, stored: StoredModel | None = None
) -> dict[str, Any]:
    """A model as plain values; what is not known is null, as is ``stored`` where the weights were removed."""
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
    document["stored"] = None if stored is None else _stored(stored)
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


def _stored(stored: StoredModel) -> dict[str, Any]:
    return {
        "num_bytes": stored.num_bytes,
        "stored_bytes": stored.stored_bytes,
        "delta_of": stored.delta_of if stored.HasField("delta_of") else None,
        "chain_position": stored.chain_position,
        "stored_at": stored.stored_at,
    }


def _numbers(result: TrainResult) -> dict[str, Any]:
    numbers: dict[str, Any] = {name: getattr(result, name) for name in NUMBERS}
    if not result.HasField("final_loss"):
        numbers["final_loss"] = None
    numbers["epoch_losses"] = list(result.epoch_losses)
    numbers["validation_losses"] = list(result.validation_losses)
    numbers["best_epoch"] = result.best_epoch if result.HasField("best_epoch") else None
    numbers["telemetry"] = _telemetry(result.telemetry) if result.HasField("telemetry") else None
    numbers["downsampling"] = _downsampling(result.downsampling) if result.HasField("downsampling") else None
    return numbers


def _telemetry(telemetry: Telemetry) -> dict[str, Any]:
    """Every field by its name; numbers of a GPU are null where there was none. Losses are pairs of batch and loss."""
    document: dict[str, Any] = {"losses": [[point.batch, point.loss] for point in telemetry.losses]}
    given = {field.name for field, _ in telemetry.ListFields()}
    for field in telemetry.DESCRIPTOR.fields:
        if field.name not in document:
            known = not field.has_presence or field.name in given
            document[field.name] = getattr(telemetry, field.name) if known else None
    return document


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
