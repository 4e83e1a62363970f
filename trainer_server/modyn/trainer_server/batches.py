"""A training set as batches of tensors, in an order that depends on (seed, trigger, epoch) only."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from modyn.core.arrow import Int64Array, concat_messages
from modyn.core.errors import CorruptDataError, InvalidInputError, ModynError
from modyn.core.keysets import KeySet, ranges_from_proto
from modyn.core.peers import Peers
from modyn.core.randomness import Purpose, generator
from modyn.core.rpc import arrow_stream
from modyn.models.decoding import Decoder
from modyn.proto.selector_pb2 import ReadTrainingSetRequest, TrainingSet
from modyn.proto.storage_pb2 import TRAINING, LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import SampleBatch, read_samples
from modyn.trainer_server.epochs import Epoch
from modyn.trainer_server.kept import KEEP_BYTES, KeptSamples

EPOCHS_PER_TRIGGER = 2**20
"""Shuffles are numbered trigger * this + epoch."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainingSamples:
    """What to train on: keys, and a weight for each (None: all 1), in the order of the training set."""

    keys: KeySet
    weights: Float32Array | None

    def __len__(self) -> int:
        return len(self.keys)


def read_training_set(training_set: TrainingSet, peers: Peers) -> TrainingSamples:
    """Keys and weights of a training set; the selector is asked only if they are not plain key ranges.

    Raises:
        CorruptDataError: it does not have as many samples as it says.
    """
    if training_set.HasField("ranges") and not training_set.has_weights:
        samples = TrainingSamples(KeySet(ranges=ranges_from_proto(training_set.ranges)), None)
    else:
        request = ReadTrainingSetRequest(digest=training_set.digest)
        table = concat_messages(arrow_stream(peers.selector.ReadTrainingSet(request)))
        keys = _column(table, "key").astype(np.int64, copy=False)
        weights = _column(table, "weight").astype(np.float32, copy=False) if training_set.has_weights else None
        samples = TrainingSamples(KeySet.from_array(keys), weights)
    if len(samples) != training_set.num_samples:
        raise CorruptDataError(
            f"training set {training_set.digest} has {len(samples)} samples; expected {training_set.num_samples}"
        )
    return samples


def _column(table: pa.Table | None, name: str) -> npt.NDArray[np.generic]:
    if table is None:
        return np.empty(0)
    values: npt.NDArray[np.generic] = table.column(name).to_numpy()
    return values


@dataclass(frozen=True, eq=False)
class Batch:
    """n labelled samples, decoded, on the CPU.

    Attributes:
        keys: int64 [n].
        inputs: tensor [n, …], or several by name.
        labels: [n] or [n, k].
        weights: float32 [n]; None: all 1.
    """

    keys: Int64Array
    inputs: torch.Tensor | dict[str, torch.Tensor]
    labels: torch.Tensor
    weights: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.keys)


class BatchSource:
    """The batches of each epoch. Samples that were deleted after they were selected are left out.

    Args:
        stub: storage.
        dataset: where the keys point to.
        samples: what to train on.
        decoder: makes tensors of them.
        batch_size: samples in a batch.
        drop_last: leave out a last batch that is not full.
        shuffle: the seed and trigger index of the order; None keeps the order of the training set.
        labels: which labels the training set was selected with; None: the newest.
        keep_bytes: sets up to this size stay in memory after their first epoch.
    """

    def __init__(
        self,
        stub: StorageStub,
        dataset: str,
        samples: TrainingSamples,
        decoder: Decoder,
        *,
        batch_size: int,
        drop_last: bool,
        shuffle: tuple[int, int] | None,
        labels: LabelsAsOf | None = None,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._stub = stub
        self._dataset = dataset
        self._samples = samples
        self._decoder = decoder
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._shuffle = shuffle
        self._labels = labels
        self._keep_bytes = keep_bytes
        self._ahead: Epoch | None = None
        self._kept: KeptSamples | None = None
        self.num_unlabelled = 0
        """Samples of the set that have no label, once the first epoch is over; they are left out."""
        self.num_deleted = 0
        """Samples of the set that storage no longer has, as far as it was read; all, once an epoch is over."""

    def prefetch(self, epoch: int) -> None:
        """Starts reading an epoch in the background."""
        order = self._order(epoch)
        keys = self._samples.keys
        if order is not None:
            keys = KeySet(array=keys.to_array()[order])
        reader = read_samples(
            self._stub,
            self._dataset,
            keys,
            batch_size=self._batch_size,
            columns=self._decoder.columns,
            labels=self._labels,
            purpose=TRAINING,
        )
        needs_places = order is not None or self._samples.weights is not None
        requested = keys.to_array() if needs_places else None
        self._ahead = Epoch(epoch, cast("Generator[SampleBatch]", reader), requested, order)

    def epoch(self, epoch: int, *, last: bool = True) -> Iterator[Batch]:
        """The batches of one epoch; epochs come in order, from 0."""
        first = epoch == 0
        short: tuple[Int64Array | None, SampleBatch] | None = None
        num_full = 0
        for places, samples in self._samples_of(epoch, last):
            if self._drop_last and len(samples) < self._batch_size:
                short = places, samples
                continue
            num_full += 1
            if (batch := self._batch(samples, self._weights(places), first_epoch=first)) is not None:
                yield batch
        # Deletions may have left less than one batch, which is trained whatever drop_last says.
        if short is not None and not num_full:
            places, samples = short
            if (batch := self._batch(samples, self._weights(places), first_epoch=first)) is not None:
                yield batch

    def why_empty(self) -> str:
        """For the user, after an epoch without a batch."""
        total = len(self._samples)
        if self.num_deleted >= total:
            return (
                f"all {total} samples of the training set were deleted after they had been selected; there is nothing "
                "to train on. Run the pipeline again: it will select from the samples that are left"
            )
        gone = f" ({self.num_deleted} of {total} samples were deleted meanwhile)" if self.num_deleted else ""
        return f"no sample of the training set has a label; there is nothing to train on{gone}"

    def _samples_of(self, epoch: int, last: bool) -> Iterator[tuple[Int64Array | None, SampleBatch]]:
        """Batches with the samples' positions in the set.

        Small sets are read in the first epoch only; of large ones the next epoch is being read meanwhile.
        """
        if self._kept is not None:
            yield from self._kept.batches(self._order(epoch), self._batch_size)
            return
        if self._ahead is None or self._ahead.number != epoch:
            self.prefetch(epoch)
        assert self._ahead is not None
        current = self._ahead
        kept = KeptSamples(self._keep_bytes) if epoch == 0 and not last else None
        try:
            for places, samples in current.placed():
                self.num_deleted = max(self.num_deleted, current.num_left_out)
                if kept is not None and not kept.add(samples, places):
                    kept = None
                if kept is None and not last and self._ahead is current:
                    self.prefetch(epoch + 1)
                yield places, samples
        finally:
            current.close()
        self.num_deleted = max(self.num_deleted, len(self._samples) - current.num_read)
        if kept is not None:
            kept.finish(len(self._samples))
            self._kept = kept

    def _order(self, epoch: int) -> Int64Array | None:
        """Positions in the training set, in the order of an epoch."""
        if self._shuffle is None:
            return None
        seed, trigger = self._shuffle
        rng = generator(seed, Purpose.SHUFFLE, trigger * EPOCHS_PER_TRIGGER + epoch)
        return rng.permutation(len(self._samples))

    def _weights(self, places: Int64Array | None) -> Float32Array | None:
        if self._samples.weights is None:
            return None
        assert places is not None  # they are kept where there are weights
        return self._samples.weights[places]

    def _batch(self, samples: SampleBatch, weights: Float32Array | None, *, first_epoch: bool) -> Batch | None:
        if samples.labels.null_count:
            self.num_unlabelled += samples.labels.null_count if first_epoch else 0
            samples, weights = _labelled(samples, weights)
            if not len(samples):
                return None
        try:
            inputs = self._decoder.inputs(samples.columns)
            labels = self._decoder.labels(samples.labels)
        except ModynError as error:
            raise type(error)(
                f"{error.message} (in the batch that starts with sample key {samples.keys[0]})"
            ) from error
        return Batch(samples.keys, inputs, labels, None if weights is None else _tensor(weights))


def _labelled(samples: SampleBatch, weights: Float32Array | None) -> tuple[SampleBatch, Float32Array | None]:
    """The samples that have a label."""
    mask = pc.is_valid(samples.labels)
    keep = mask.to_numpy(zero_copy_only=False)
    labelled = SampleBatch(
        samples.keys[keep],
        samples.labels.filter(mask),
        samples.timestamps[keep],
        {name: array.filter(mask) for name, array in samples.columns.items()},
    )
    return labelled, None if weights is None else weights[keep]


def _tensor(weights: Float32Array) -> torch.Tensor:
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise InvalidInputError(
            "the training set has weights that are negative, not finite or all zero in a batch; "
            "expected a selection policy to give finite weights of at least 0"
        )
    return torch.from_numpy(np.require(weights, requirements=["C", "W"]))
