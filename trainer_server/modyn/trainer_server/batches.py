"""A training set as batches of tensors, in an order that depends on (seed, trigger, epoch) only."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
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
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import SampleBatch, read_samples
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
    """The batches of each epoch.

    Args:
        stub: storage.
        dataset: where the keys point to.
        samples: what to train on.
        decoder: makes tensors of them.
        batch_size: samples in a batch.
        drop_last: leave out a last batch that is not full.
        shuffle: the seed and trigger index of the order; None keeps the order of the training set.
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
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._stub = stub
        self._dataset = dataset
        self._samples = samples
        self._decoder = decoder
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._shuffle = shuffle
        self._keep_bytes = keep_bytes
        self._ahead: _Epoch | None = None
        self._kept: KeptSamples | None = None
        self.num_unlabelled = 0
        """Samples of the set that have no label, once the first epoch is over; they are left out."""

    def prefetch(self, epoch: int) -> None:
        """Starts reading an epoch in the background."""
        order = self._order(epoch)
        keys = self._samples.keys
        if order is not None:
            keys = KeySet(array=keys.to_array()[order])
        reader = read_samples(
            self._stub, self._dataset, keys, batch_size=self._batch_size, columns=self._decoder.columns
        )
        self._ahead = _Epoch(epoch, cast("Generator[SampleBatch]", reader))

    def epoch(self, epoch: int, *, last: bool = True) -> Iterator[Batch]:
        """The batches of one epoch; epochs come in order, from 0."""
        order = self._order(epoch)
        position = 0
        for samples in self._samples_of(epoch, order, last):
            places = slice(position, position + len(samples))
            position = places.stop
            if self._drop_last and len(samples) < self._batch_size:
                continue
            weights = self._weights(places if order is None else order[places])
            if (batch := self._batch(samples, weights, first_epoch=epoch == 0)) is not None:
                yield batch

    def _samples_of(self, epoch: int, order: Int64Array | None, last: bool) -> Iterator[SampleBatch]:
        """Small sets are read in the first epoch only; of large ones the next epoch is being read meanwhile."""
        if self._kept is not None:
            yield from self._kept.batches(order, self._batch_size)
            return
        if self._ahead is None or self._ahead.number != epoch:
            self.prefetch(epoch)
        assert self._ahead is not None
        current = self._ahead
        kept = KeptSamples(self._keep_bytes) if epoch == 0 and not last else None
        try:
            for samples in current:
                if kept is not None and not kept.add(samples):
                    kept = None
                if kept is None and not last and self._ahead is current:
                    self.prefetch(epoch + 1)
                yield samples
        finally:
            current.close()
        if kept is not None:
            kept.finish(order)
            self._kept = kept

    def _order(self, epoch: int) -> Int64Array | None:
        """Positions in the training set, in the order of an epoch."""
        if self._shuffle is None:
            return None
        seed, trigger = self._shuffle
        rng = generator(seed, Purpose.SHUFFLE, trigger * EPOCHS_PER_TRIGGER + epoch)
        return rng.permutation(len(self._samples))

    def _weights(self, places: slice | Int64Array) -> Float32Array | None:
        return self._samples.weights[places] if self._samples.weights is not None else None

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


class _Epoch:
    """The samples of one epoch. Its first batch is read in the background, from now on; the rest where it is
    consumed (what the reader itself fetches ahead is its own matter).
    """

    def __init__(self, number: int, reader: Generator[SampleBatch]) -> None:
        self.number = number
        self._reader = reader
        self._first: Future[list[SampleBatch]] = Future()
        self._thread = threading.Thread(target=self._fetch, name="ahead", daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            self._first.set_result(list(itertools.islice(self._reader, 1)))
        except BaseException as error:  # noqa: BLE001 - raised where it is consumed
            self._first.set_exception(error)

    def __iter__(self) -> Iterator[SampleBatch]:
        yield from self._first.result()
        yield from self._reader

    def close(self) -> None:
        self._thread.join()
        self._reader.close()
