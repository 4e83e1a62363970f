"""Lineage: which models were trained on some samples, and on which of their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.proto.trainer_server_pb2 import FindTrainingsRequest
from modyn.proto.trainer_server_pb2 import TrainedModel as TrainedModelMessage
from modyn.storage.reader import Column, Order, read_columns

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ModelUse:
    """A pipeline's trigger that has a model; ``reused``: it had been trained before, for another one."""

    pipeline_id: str
    trigger_index: int
    reused: bool


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A stored model, and a training set of which it was made.

    Attributes:
        model: content digest, under which it is stored.
        dataset: the training set's.
        training_set: digest.
        keys: those of the keys asked for that it was trained on, ascending, int64 [n]; empty if ``inherited``.
        labels: which labels the set was trained with; None if ``inherited``.
        uses: who has the model, oldest first.
        trained_at: Unix seconds.
        initial_model: what it was warm-started from; None: random weights.
        inherited: it was not trained on the keys itself, but the models were that its weights began with, or auxiliary
            models that its downsampling took over from an earlier trigger.
        trained: digest of the record of what was really trained; None: its whole training set.
    """

    model: str
    dataset: str
    training_set: str
    keys: Int64Array
    labels: LabelsAsOf | None
    uses: tuple[ModelUse, ...]
    trained_at: float
    initial_model: str | None
    inherited: bool
    trained: str | None = None


def models_trained_on(peers: Peers, dataset: str, keys: KeySet) -> list[TrainedModel]:
    """See :meth:`modyn.client.Client.models_trained_on`."""
    asked = np.unique(keys.to_array())
    found = peers.trainer_server.FindTrainings(_requests(dataset, KeySet.from_array(asked)))
    return [_trained_model(message, asked) for message in found]


def models_trained_on_old_labels(peers: Peers, dataset: str, keys: KeySet) -> list[TrainedModel]:
    """See :meth:`modyn.client.Client.models_trained_on_old_labels`."""
    asked = np.unique(keys.to_array())
    newest = _Labels.read(peers, dataset, asked, LabelsAsOf())
    changed: dict[bytes, Int64Array] = {}
    old: list[TrainedModel] = []
    stale: set[str] = set()
    for model in models_trained_on(peers, dataset, keys):  # whoever inherits comes after its ancestors
        wrong = asked[:0]
        if model.labels is not None:
            as_of = model.labels.SerializeToString(deterministic=True)
            if as_of not in changed:
                changed[as_of] = newest.changed_since(_Labels.read(peers, dataset, asked, model.labels))
            wrong = np.intersect1d(model.keys, changed[as_of], assume_unique=True)
        if len(wrong) or model.initial_model in stale:
            stale.add(model.model)
            old.append(replace(model, keys=wrong, inherited=not len(wrong)))
    return old


@dataclass(frozen=True, eq=False)
class _Labels:
    """Labels of n samples, by ascending keys; null where missing."""

    keys: Int64Array
    labels: pa.Array

    @staticmethod
    def read(peers: Peers, dataset: str, keys: Int64Array, as_of: LabelsAsOf) -> _Labels:
        table = read_columns(
            peers.storage,
            dataset,
            KeySet.from_array(keys),
            columns=[Column.LABEL],
            order=Order.REQUEST,  # superseded samples too: models may have been trained on them
            labels=as_of,
        )
        return _Labels(table["key"].to_numpy(), table["label"].combine_chunks())

    def changed_since(self, earlier: _Labels) -> Int64Array:
        """Keys of both whose labels differ."""
        keys, ours, theirs = np.intersect1d(self.keys, earlier.keys, assume_unique=True, return_indices=True)
        return keys[_differ(self.labels.take(pa.array(ours)), earlier.labels.take(pa.array(theirs)))]


def _differ(one: pa.Array, other: pa.Array) -> Mask:
    """Where labels of one type differ, bool [n]; missing is equal to missing, and NaN to NaN."""
    if pa.types.is_null(one.type) or pa.types.is_null(other.type):
        valid: list[Mask] = [labels.is_valid().to_numpy(zero_copy_only=False) for labels in (one, other)]
        return np.not_equal(valid[0], valid[1])
    # As codes, so that lists compare too.
    both = pa.chunked_array([one, other])
    if pa.types.is_nested(both.type):
        codes = _codes_of_lists(both)
    else:
        codes = both.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
    differ: Mask = codes[: len(one)] != codes[len(one) :]
    return differ


def _codes_of_lists(labels: pa.ChunkedArray) -> Int64Array:
    """Equal numbers for equal lists, int64 [n]; by a loop over the labels asked for, as Arrow does not encode lists."""
    numbers: dict[object, int] = {}
    keys = (None if label is None else tuple(label) for label in labels.to_pylist())
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _requests(dataset: str, keys: KeySet) -> Iterator[FindTrainingsRequest]:
    parts = list(keys.to_protos()) or [keys.to_proto()]
    return (FindTrainingsRequest(dataset=dataset, keys=part) for part in parts)


def _trained_model(message: TrainedModelMessage, asked: Int64Array) -> TrainedModel:
    return TrainedModel(
        model=message.model,
        dataset=message.dataset,
        training_set=message.training_set,
        keys=_members(message, asked),
        labels=None if message.inherited else message.labels,
        uses=tuple(ModelUse(use.pipeline_id, use.trigger_index, use.reused) for use in message.uses),
        trained_at=message.trained_at,
        initial_model=message.initial_model if message.HasField("initial_model") else None,
        inherited=message.inherited,
        trained=message.trained if message.HasField("trained") else None,
    )


def _members(message: TrainedModelMessage, asked: Int64Array) -> Int64Array:
    if message.inherited:
        return asked[:0]
    bits = np.unpackbits(np.frombuffer(message.members, dtype=np.uint8), count=len(asked), bitorder="little")
    return asked[bits.astype(np.bool_)]
