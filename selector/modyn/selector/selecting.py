"""Selecting a trigger's training set, exactly once and restartable at any moment.

Order of writing: the files (named by content, so a repetition writes the same ones), then one transaction with the
rows. A crash in between leaves files nobody refers to, which the repetition uses.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from modyn.core.digests import digest_inputs
from modyn.core.errors import ConflictError, InternalError, InvalidInputError, NotFoundError
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput, SelectionPolicy, TriggerData
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.selector.catalog import SelectorCatalog, TrainingSetRow, TriggerRow
from modyn.selector.columns import StorageColumns, covering_ranges
from modyn.selector.history import History, PastSelections
from modyn.selector.keyfiles import KeyFile, KeyFiles
from modyn.selector.labels import digest_of, labels_of, named, pinned, tree_of
from modyn.selector.seen import PastKeys
from modyn.storage.label_versions import newest_label_version


@dataclass(frozen=True, eq=False)
class TriggerRequest:
    """A trigger for which a training set is asked.

    Attributes:
        new_data: of this trigger, in the order in which the pipeline saw the samples.
        last_timestamp: data clock at the trigger, Unix seconds.
        labels: which labels count; None: all that are known now.
    """

    pipeline_id: str
    trigger_index: int
    dataset: str
    policy: SelectionPolicy
    seed: int
    new_data: KeySet
    last_timestamp: int | None = None
    labels: LabelsAsOf | None = None


@dataclass(frozen=True, eq=False)
class StoredTrainingSet:
    """A training set, the (last) trigger it was selected for, and the digest of the data it points to now."""

    row: TrainingSetRow
    trigger: TriggerRow
    content: KeyFile
    content_digest: str


@dataclass(frozen=True, eq=False)
class _Selected:
    content: KeyFile
    labels: LabelsAsOf
    num_unlabelled: int
    end_key: int


class Selecting:
    """Runs policies and keeps their results."""

    def __init__(self, catalog: SelectorCatalog, files: KeyFiles, peers: Peers) -> None:
        self._catalog = catalog
        self._files = files
        self._peers = peers
        self._past_keys = PastKeys(catalog, files)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def create(self, request: TriggerRequest) -> StoredTrainingSet:
        """Selects and stores the training set of a trigger; a repetition answers the first result.

        Raises:
            ConflictError: the trigger was given before with other inputs, or an earlier one is missing.
            InvalidInputError: a key appears twice, in these or in earlier new data, or does not exist.
            NotFoundError: there is no such dataset.
        """
        started = time.perf_counter()
        selection = SELECTION_POLICIES.dump(request.policy)
        with self._locks[request.pipeline_id]:
            new_data = self._files.put(KeyFile(request.dataset, request.new_data))
            inputs = {"dataset": request.dataset, "new_data": new_data, "selection": selection, "seed": request.seed}
            if request.labels is not None:
                inputs["labels"] = tree_of(request.labels)
            input_digest = digest_inputs(inputs)
            known = self._catalog.trigger(request.pipeline_id, request.trigger_index)
            if known is None:
                selected = self._select(request)
                training_set = self._keep(request.dataset, selected)
                known = TriggerRow(
                    pipeline_id=request.pipeline_id,
                    trigger_index=request.trigger_index,
                    dataset=request.dataset,
                    new_data=new_data,
                    num_new=len(request.new_data),
                    num_unlabelled=selected.num_unlabelled,
                    end_key=selected.end_key,
                    last_timestamp=request.last_timestamp,
                    selection=selection,
                    seed=request.seed,
                    input_digest=input_digest,
                    training_set=training_set.digest,
                    seconds=time.perf_counter() - started,
                    created_at=time.time(),
                )
                self._catalog.record(known, training_set)
            elif known.input_digest != input_digest:
                raise ConflictError(
                    f"trigger {request.trigger_index} of pipeline {request.pipeline_id} was selected before from other "
                    "data or with other settings; start a new pipeline instead"
                )
        return self._stored(known)

    def describe(self, digest: str) -> StoredTrainingSet:
        """What is known of a training set.

        Raises:
            NotFoundError: there is none of this digest.
        """
        trigger = self._catalog.newest_trigger_of(digest)
        if trigger is None:
            raise NotFoundError(f"there is no training set {digest!r}")
        return self._stored(trigger)

    def content(self, digest: str) -> KeyFile:
        """Keys and weights of a training set."""
        row = self._catalog.training_set(digest)
        if row is None:
            raise NotFoundError(f"there is no training set {digest!r}")
        return self._files.get(row.key_file)

    def _select(self, request: TriggerRequest) -> _Selected:
        previous = self._catalog.last_trigger(request.pipeline_id)
        expected = 0 if previous is None else previous.trigger_index + 1
        if request.trigger_index != expected:
            raise ConflictError(
                f"trigger {request.trigger_index} of pipeline {request.pipeline_id} came out of order; "
                f"the next one is {expected}"
            )
        if previous is not None and previous.dataset != request.dataset:
            raise ConflictError(
                f"pipeline {request.pipeline_id} selects from dataset {previous.dataset!r}, not {request.dataset!r}"
            )
        cover = covering_ranges(request.new_data, distinct=True)
        end_key = max(0 if previous is None else previous.end_key, cover[-1].end if cover else 0)
        labels = self._labels(request)
        columns = StorageColumns(self._peers.storage, request.dataset, end_key, labels)
        trainable = columns.trainable(cover)
        if previous is not None and cover and cover[0].start < previous.end_key:  # else all keys are new ones
            self._check_not_repeated(request)
        current = TriggerData(request.trigger_index, trainable.keep(request.new_data))

        def load(first: int, stop: int) -> list[TriggerData]:
            digests = self._catalog.new_data(request.pipeline_id, first, stop)
            return _usable(columns, first, [self._files.get(digest).keys for digest in digests])

        past = PastSelections(self._catalog, self._files, request.pipeline_id, request.trigger_index)
        data = SelectionInput(history=History(load, current), columns=columns, seed=request.seed, selected=past)
        selection = request.policy.select(data)
        _check(request.policy, selection)
        content = KeyFile(request.dataset, selection.keys, selection.weights)
        return _Selected(content, labels, trainable.count_unlabelled(request.new_data), end_key)

    def _check_not_repeated(self, request: TriggerRequest) -> None:
        key = self._past_keys.first_of(request.new_data, request.pipeline_id, request.trigger_index)
        if key is not None:
            raise InvalidInputError(
                f"the new data of trigger {request.trigger_index} contain key {key}, which those of an earlier one of "
                f"pipeline {request.pipeline_id} contained; expected every key once"
            )

    def _labels(self, request: TriggerRequest) -> LabelsAsOf:
        labels = request.labels or LabelsAsOf()
        if not labels.HasField("version"):  # whatever reads them later must see the same
            labels = pinned(labels, newest_label_version(self._peers.storage, request.dataset))
        return named(labels, request.last_timestamp)

    def _keep(self, dataset: str, selected: _Selected) -> TrainingSetRow:
        key_file = self._files.put(selected.content)
        content, labels = self._files.get(key_file), selected.labels
        return TrainingSetRow(
            digest=digest_of(key_file, labels),
            dataset=dataset,
            num_samples=len(content.keys),
            has_weights=content.weights is not None,
            created_at=time.time(),
            key_file=key_file,
            label_version=labels.version,
            label_time=labels.label_time if labels.HasField("label_time") else None,
            label_arrival=labels.arrival if labels.HasField("arrival") else None,
        )

    def _stored(self, trigger: TriggerRow) -> StoredTrainingSet:
        row = self._catalog.training_set(trigger.training_set)
        assert row is not None  # a foreign key
        content = self._files.get(row.key_file)
        # Asked now and not kept: samples may have been deleted since, and then a training is another one.
        columns = StorageColumns(self._peers.storage, row.dataset, trigger.end_key, labels_of(row))
        return StoredTrainingSet(row, trigger, content, columns.inspect(covering_ranges(content.keys)).content_digest)


def _usable(columns: StorageColumns, first: int, keys: list[KeySet]) -> list[TriggerData]:
    """New data of consecutive triggers without what was superseded since or has no label; one look-up for all."""
    trainable = columns.trainable(covering_ranges(KeySet.concat(keys)))
    return [TriggerData(first + i, trainable.keep(entry)) for i, entry in enumerate(keys)]


def _check(policy: SelectionPolicy, selection: Selection) -> None:
    weights = selection.weights
    if weights is None:
        return
    if len(weights) != len(selection.keys) or not np.isfinite(weights).all() or bool((weights < 0).any()):
        raise InternalError(
            f"selection policy {policy.plugin_name} gave {len(weights)} weights for {len(selection.keys)} keys, or "
            "weights that are negative or not finite; report this to its author"
        )
