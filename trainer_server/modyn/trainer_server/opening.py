"""What to read of a training set, and how: opens the streams of its epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.draws import EPOCHS_PER_TRIGGER, Draws
from modyn.core.keysets import KeySet
from modyn.core.plugins.downsampling import Choice
from modyn.core.randomness import Purpose, generator
from modyn.models.decoding import Decoder
from modyn.models.workers import ParserPool
from modyn.proto.storage_pb2 import TRAINING, LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.batches import SampleBlocks
from modyn.trainer_server.epochs import Reading
from modyn.trainer_server.making import Clock, Maker
from modyn.trainer_server.orders import Listed, Order, Share, Straight
from modyn.trainer_server.permutations import Permutation
from modyn.trainer_server.streams import AnyKept, Stream, kept_chunks, read_chunks
from modyn.trainer_server.training_sets import TrainingSamples

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Opener:
    """Opens streams of a training set; its fields are arguments of :class:`modyn.trainer_server.batches.BatchSource`.

    Attributes:
        pin: put batches into memory that a GPU can copy from by itself.
        clock: counts what parsing takes in the thread that trains.
    """

    stub: StorageStub
    dataset: str
    samples: TrainingSamples
    decoder: Decoder
    batch_size: int
    drop_last: bool
    shuffle: tuple[int, int] | None
    draws: tuple[int, int] | None
    labels: LabelsAsOf | None
    pool: ParserPool | None
    pin: bool
    clock: Clock = field(default_factory=Clock)

    def epoch(
        self, epoch: int, choice: Choice | None, kept: AnyKept | None, begin: int, share: Share | None, *, places: bool
    ) -> Stream:
        """The batches of an epoch from number ``begin`` on.

        Args:
            choice: of the set, with weights; None: all, as they are.
            kept: the set in memory.
            share: what this process trains of it; None: all.
            places: whether batches must know where their samples are in the set.
        """
        maker = Maker(
            self.decoder,
            self.batch_size if share is None else share.rows,
            drop_last=self.drop_last and share is None,
            draws=self._drawing(epoch),
            weights=self._weights(choice),
            pool=self.pool,
            pin=self.pin,
            clock=self.clock,
        )
        return self._opened(epoch, share or self.order(epoch, choice), maker, kept, begin, places=places)

    def everything(self, batch_size: int, kept: AnyKept | None, *, places: bool) -> Stream:
        """All samples in the order of the set, without weights, and parsed as an evaluation would."""
        maker = Maker(self.decoder, batch_size, clock=self.clock)
        return self._opened(-1, Straight(len(self.samples)), maker, kept, 0, places=places)

    def order(self, epoch: int, choice: Choice | None) -> Order:
        """Positions in the training set, in the order of an epoch."""
        if self.shuffle is None:
            return Straight(len(self.samples)) if choice is None else Listed(choice.positions)
        seed, trigger = self.shuffle
        index = trigger * EPOCHS_PER_TRIGGER + epoch
        if choice is None:
            return Permutation(len(self.samples), seed, Purpose.SHUFFLE, index)
        return Listed(generator(seed, Purpose.SHUFFLE, index).permutation(choice.positions))

    def _opened(
        self, epoch: int, order: Order, maker: Maker, kept: AnyKept | None, begin: int, *, places: bool
    ) -> Stream:
        straight = isinstance(order, Straight)
        if kept is not None:
            return Stream(epoch, begin, kept_chunks(kept, None if straight else order, maker, begin))
        reading = Reading(
            self._reader(maker.rows),
            self.samples,
            order,
            maker.rows,
            begin=begin * maker.rows,
            with_places=places or not straight or self.samples.weights is not None,
        )
        return Stream(epoch, begin, read_chunks(reading, maker, begin), reading)

    def _reader(self, rows: int) -> Callable[[Iterator[KeySet]], SampleBlocks]:
        def read(keys: Iterator[KeySet]) -> SampleBlocks:
            return SampleBlocks(
                self.stub,
                self.dataset,
                keys,
                batch_size=rows,
                columns=self.decoder.columns,
                labels=self.labels,
                purpose=TRAINING,
            )

        return read

    def _drawing(self, epoch: int) -> Callable[[Int64Array], Draws] | None:
        """What parsing draws for some keys."""
        if self.draws is None:
            return None
        seed, trigger = self.draws
        return lambda keys: Draws(seed, trigger, epoch, keys)

    def _weights(self, choice: Choice | None) -> Callable[[Int64Array], Float32Array] | None:
        """The weights of samples at some places of the set, in an epoch of this choice; None: all 1."""
        weights = self.samples.weights
        if choice is None or choice.weights is None:
            return None if weights is None else weights.__getitem__
        positions, factors = choice.positions, choice.weights

        def chosen(places: Int64Array) -> Float32Array:
            found: Float32Array = factors[np.searchsorted(positions, places)]
            return found if weights is None else weights[places] * found

        return chosen
