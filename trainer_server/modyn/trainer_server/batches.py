"""A training set as batches of tensors, in an order that depends on (seed, trigger, epoch) only."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.core.plugins.downsampling import Choice
from modyn.core.randomness import Purpose, generator
from modyn.models.decoding import Decoder
from modyn.proto.storage_pb2 import TRAINING, LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import SampleBatch, read_samples
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.epochs import Epoch
from modyn.trainer_server.kept import KEEP_BYTES, KeptSamples
from modyn.trainer_server.training_sets import TrainingSamples

EPOCHS_PER_TRIGGER = 2**20
"""Shuffles are numbered trigger * this + epoch."""

Float32Array = npt.NDArray[np.float32]


class Narrowing(Protocol):
    """Which samples of the training set an epoch trains on."""

    @property
    def fixed(self) -> bool:
        """Whether all epochs train on the same samples."""

    def known(self, epoch: int) -> bool:
        """Whether :meth:`choice` can be asked already."""

    def choice(self, epoch: int) -> Choice | None:
        """Positions in the training set, and weights; None: all, as they are."""


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
        keep_bytes: sets up to this size stay in memory after they were read as a whole.
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
        self.batch_size = batch_size
        self._drop_last = drop_last
        self._shuffle = shuffle
        self._labels = labels
        self._keep_bytes = keep_bytes
        self._narrowing: Narrowing | None = None
        self._ahead: Epoch | None = None
        self._kept: KeptSamples | None = None
        self._unlabelled_now = 0
        self.num_unlabelled = 0
        """Samples of the set that have no label, once all were read; they are left out."""
        self.num_deleted = 0
        """Samples of the set that storage no longer has, as far as it was read; all, once an epoch is over."""

    def __len__(self) -> int:
        """Samples in the set."""
        return len(self._samples)

    def narrow(self, narrowing: Narrowing) -> None:
        """Makes epochs consist of what it says; before the first one."""
        self._narrowing = narrowing

    def prefetch(self, epoch: int) -> None:
        """Starts reading an epoch in the background."""
        self._ahead = self._reading(epoch, self._order(epoch), self.batch_size)

    def everything(self, batch_size: int) -> Iterator[Batch]:
        """All samples once, in the order of the set, with their places but without weights.

        Sets that are small enough stay in memory from then on.
        """
        if self._kept is not None:
            source = self._kept.batches(None, batch_size)
        else:
            source = self._read(self._reading(-1, None, batch_size), KeptSamples(self._keep_bytes))
        self._unlabelled_now = 0
        for places, samples in source:
            if (batch := self._batch(samples, places, weighted=False)) is not None:
                yield batch

    def load(self) -> Int64Array | None:
        """Reads the whole set into memory, if it is small enough: for epochs that each need other samples of it.

        Returns:
            Positions in the set of the samples that storage still has, ascending, int64; None: it was not read.
        """
        if self._kept is None and self._keep_bytes > 0:
            keep = KeptSamples(self._keep_bytes)
            reading = self._read(self._reading(-1, None, self.batch_size), keep)
            for _ in reading:
                if keep.full:
                    reading.close()
                    return None
        return None if self._kept is None else self._kept.places

    def epoch(self, epoch: int, *, last: bool = True) -> Iterator[Batch]:
        """The batches of one epoch; epochs come in order, from 0."""
        self._unlabelled_now = 0
        short: tuple[Int64Array | None, SampleBatch] | None = None
        num_full = 0
        for places, samples in self._samples_of(epoch, last):
            if self._drop_last and len(samples) < self.batch_size:
                short = places, samples
                continue
            num_full += 1
            if (batch := self._batch(samples, places, epoch=epoch)) is not None:
                yield batch
        # Deletions may have left less than one batch, which is trained whatever drop_last says.
        if short is not None and not num_full and (batch := self._batch(short[1], short[0], epoch=epoch)) is not None:
            yield batch

    def why_empty(self) -> str:
        """For the user, after an epoch without a batch."""
        total = len(self._samples)
        if self.num_deleted >= total:
            return (
                f"all {total} samples of the training set were deleted after they had been selected; there is nothing "
                "to train on. Run the pipeline again: it will select from the samples that are left"
            )
        if self._narrowing is not None and self.num_deleted and not self.num_unlabelled:
            return (
                "all samples that were chosen of the training set were deleted after it had been selected; there is "
                "nothing to train on. Run the pipeline again: it will select from the samples that are left"
            )
        gone = f" ({self.num_deleted} of {total} samples were deleted meanwhile)" if self.num_deleted else ""
        return f"no sample of the training set has a label; there is nothing to train on{gone}"

    # --------------------------------------------------------------------------------------------------- reading

    def _samples_of(self, epoch: int, last: bool) -> Iterator[tuple[Int64Array | None, SampleBatch]]:
        """Batches with the samples' positions in the set.

        Small sets are read once only; of large ones the next epoch is being read meanwhile, if it is known.
        """
        if self._kept is not None:
            yield from self._kept.batches(self._order(epoch), self.batch_size)
            return
        if self._ahead is None or self._ahead.number != epoch:
            self.prefetch(epoch)
        assert self._ahead is not None
        serve_again = self._narrowing is None or self._narrowing.fixed or self._narrowing.choice(epoch) is None
        keep = KeptSamples(self._keep_bytes) if epoch == 0 and not last and serve_again else None
        more = not last and (self._narrowing is None or self._narrowing.known(epoch + 1))
        yield from self._read(self._ahead, keep, then=epoch + 1 if more else None)

    def _read(
        self, current: Epoch, keep: KeptSamples | None, then: int | None = None
    ) -> Generator[tuple[Int64Array | None, SampleBatch]]:
        """What is being read; kept if it fits, else epoch ``then`` is begun meanwhile.

        Args:
            keep: takes the samples, which must be all that any later epoch asks for; None: they are not kept.
        """
        try:
            for places, samples in current.placed():
                self.num_deleted = max(self.num_deleted, current.num_left_out)
                if keep is not None and not keep.add(samples, places):
                    keep = None
                if keep is None and then is not None and self._ahead is current:
                    self.prefetch(then)
                yield places, samples
        finally:
            current.close()
        self.num_deleted = max(self.num_deleted, current.num_requested - current.num_read)
        if keep is not None:
            keep.finish(len(self._samples))
            self._kept = keep

    def _reading(self, number: int, order: Int64Array | None, batch_size: int) -> Epoch:
        keys = self._samples.keys
        if order is not None:
            keys = KeySet(array=keys.to_array()[order])
        reader = read_samples(
            self._stub,
            self._dataset,
            keys,
            batch_size=batch_size,
            columns=self._decoder.columns,
            labels=self._labels,
            purpose=TRAINING,
        )
        needs_places = order is not None or self._samples.weights is not None or self._narrowing is not None
        requested = keys.to_array() if needs_places else None
        return Epoch(number, cast("Generator[SampleBatch]", reader), requested, order, len(keys))

    def _order(self, epoch: int) -> Int64Array | None:
        """Positions in the training set, in the order of an epoch; None: all as they are."""
        choice = self._narrowing.choice(epoch) if self._narrowing is not None else None
        if self._shuffle is None:
            return None if choice is None else choice.positions
        seed, trigger = self._shuffle
        rng = generator(seed, Purpose.SHUFFLE, trigger * EPOCHS_PER_TRIGGER + epoch)
        if choice is None:
            return rng.permutation(len(self._samples))
        shuffled: Int64Array = rng.permutation(choice.positions)
        return shuffled

    # --------------------------------------------------------------------------------------------------- batches

    def _weights(self, places: Int64Array | None, epoch: int) -> Float32Array | None:
        weights = self._samples.weights
        choice = self._narrowing.choice(epoch) if self._narrowing is not None else None
        if weights is not None:
            assert places is not None  # they are kept where there are weights
            weights = weights[places]
        if choice is None or choice.weights is None:
            return weights
        assert places is not None
        factors = choice.weights[np.searchsorted(choice.positions, places)]
        return factors if weights is None else weights * factors

    def _batch(
        self, samples: SampleBatch, places: Int64Array | None, *, epoch: int = 0, weighted: bool = True
    ) -> Batch | None:
        if samples.labels.null_count:
            self._unlabelled_now += samples.labels.null_count
            self.num_unlabelled = max(self.num_unlabelled, self._unlabelled_now)
            samples, places = _labelled(samples, places)
            if not len(samples):
                return None
        try:
            inputs = self._decoder.inputs(samples.columns)
            labels = self._decoder.labels(samples.labels)
        except ModynError as error:
            raise type(error)(
                f"{error.message} (in the batch that starts with sample key {samples.keys[0]})"
            ) from error
        weights = self._weights(places, epoch) if weighted else None
        return Batch(samples.keys, inputs, labels, None if weights is None else _tensor(weights), places)


def _labelled(samples: SampleBatch, places: Int64Array | None) -> tuple[SampleBatch, Int64Array | None]:
    """The samples that have a label."""
    mask = pc.is_valid(samples.labels)
    keep = mask.to_numpy(zero_copy_only=False)
    labelled = SampleBatch(
        samples.keys[keep],
        samples.labels.filter(mask),
        samples.timestamps[keep],
        {name: array.filter(mask) for name, array in samples.columns.items()},
    )
    return labelled, None if places is None else places[keep]


def _tensor(weights: Float32Array) -> torch.Tensor:
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidInputError(
            "the training set has weights that are negative or not finite; "
            "expected a selection policy to give finite weights of at least 0"
        )
    return torch.from_numpy(np.require(weights, requirements=["C", "W"]))
