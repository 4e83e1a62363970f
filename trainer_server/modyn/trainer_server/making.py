"""From blocks of samples to batches of tensors: many batches are parsed at once where that gives the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from modyn.core.arrow import Int64Array
from modyn.core.draws import Draws
from modyn.core.errors import InvalidInputError, ModynError
from modyn.models.decoding import Decoder
from modyn.models.workers import ParserPool
from modyn.storage.batches import SampleBatch
from modyn.trainer_server.batch import Batch, Inputs
from modyn.trainer_server.chunks import Chunk, ParsedChunk, Piece, UnparsedChunk

Float32Array = npt.NDArray[np.float32]


@dataclass
class Clock:
    """Counts seconds."""

    seconds: float = 0.0


class Maker:
    """Makes the chunks of one epoch.

    Args:
        decoder: parses samples.
        rows: samples in a batch.
        drop_last: leave out a last batch that is not full, unless it is the only one.
        draws: random numbers for some keys; None: nothing is random.
        weights: float32 [n] of samples at some places; None: there are none.
        pool: parses batches, where a decoder cannot parse many at once.
        pin: put parsed chunks into memory that a GPU can copy from by itself.
        clock: counts what parsing takes in the thread that trains.
    """

    def __init__(
        self,
        decoder: Decoder,
        rows: int,
        *,
        drop_last: bool = False,
        draws: Callable[[Int64Array], Draws] | None = None,
        weights: Callable[[Int64Array], Float32Array] | None = None,
        pool: ParserPool | None = None,
        pin: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.rows = rows
        self._decoder = decoder
        self._drop_last = drop_last
        self._draws = draws
        self._weights = weights
        self._pool = None if decoder.parses_batches or draws is None else pool
        self._pin = pin
        self._clock = clock or Clock()

    def chunk(self, samples: SampleBatch, places: Int64Array | None, first: int) -> Chunk:
        """Batches of a block of samples; in any thread.

        Args:
            samples: whole batches; only the last block of an epoch may end with less.
            places: of them in the training set, int64 [n], if they are known.
            first: number of the first batch in its epoch.
        """
        labelled, labelled_places, pieces = self._cut(samples, places, first)
        num_unlabelled = len(samples) - len(labelled)
        if self._decoder.parses_batches and len(labelled):
            try:
                whole = self._parsed(labelled, labelled_places)
            except ModynError:
                pass  # one of the batches is to blame, and is found when it is its turn
            else:
                return ParsedChunk(samples, places, pieces, whole, num_unlabelled=num_unlabelled)
        futures = None
        if self._pool is not None:
            futures = [self._submitted(labelled, piece) for piece in pieces]
        return UnparsedChunk(
            samples, places, pieces, labelled, labelled_places, self, futures, num_unlabelled=num_unlabelled
        )

    def from_memory(self, whole: Batch, places: Int64Array | None, first: int) -> Chunk:
        """Batches of samples that were parsed before, all of which have a label.

        Args:
            whole: without weights; nobody else holds its tensors.
            places: of them in the training set, int64 [n], if they are known.
            first: number of the first batch in its epoch.

        Raises:
            InvalidInputError: the weights make no sense.
        """
        whole = replace(whole, weights=self._weights_of(places), places=places)
        return ParsedChunk(None, places, self._pieces(len(whole), first), self._pinned(whole))

    def batch(
        self, samples: SampleBatch, places: Int64Array | None, number: int, parsed: Future[Inputs] | None = None
    ) -> Batch:
        """One batch; in the thread that trains.

        Args:
            samples: all with labels.
            number: of the batch in its epoch.
            parsed: its inputs, if somebody else parses them.

        Raises:
            ModynError: samples cannot be parsed, or weights make no sense.
        """
        draws = None if self._draws is None else self._draws(samples.keys)
        began = time.perf_counter()
        try:
            inputs = self._decoder.inputs(samples.columns, draws, number) if parsed is None else parsed.result()
            labels = self._decoder.labels(samples.labels, draws, number)
        except ModynError as error:
            raise type(error)(
                f"{error.message} (in the batch that starts with sample key {samples.keys[0]})"
            ) from error
        self._clock.seconds += time.perf_counter() - began
        return Batch(samples.keys, inputs, labels, self._weights_of(places), places, _range(labels))

    def _parsed(self, samples: SampleBatch, places: Int64Array | None) -> Batch:
        draws = None if self._draws is None else self._draws(samples.keys)
        labels = self._decoder.labels(samples.labels)
        inputs = self._decoder.inputs(samples.columns, draws)
        weights = self._weights_of(places)
        return self._pinned(Batch(samples.keys, inputs, labels, weights, places, _range(labels)))

    def _submitted(self, samples: SampleBatch, piece: Piece) -> Future[Inputs]:
        assert self._pool is not None
        assert self._draws is not None
        if not piece.size:
            return Future()
        samples = samples.slice(piece.start, piece.size)
        return self._pool.submit(samples.columns, self._draws(samples.keys), piece.number)

    def _cut(
        self, samples: SampleBatch, places: Int64Array | None, first: int
    ) -> tuple[SampleBatch, Int64Array | None, Sequence[Piece]]:
        """The samples that have a label, their places, and the batches of these."""
        pieces = self._pieces(len(samples), first)
        if not samples.labels.null_count:
            return samples, places, pieces
        mask = pc.is_valid(samples.labels).to_numpy(zero_copy_only=False)
        before = np.concatenate(([0], np.cumsum(mask))).tolist()  # labelled ones before each row
        rows = np.flatnonzero(mask)
        return (
            samples.take(rows),
            None if places is None else places[rows],
            [Piece(p.number, before[p.start], before[p.start + p.size] - before[p.start]) for p in pieces],
        )

    def _pieces(self, count: int, first: int) -> list[Piece]:
        """How a block is cut."""
        full, left = divmod(count, self.rows)
        pieces = [Piece(first + index, index * self.rows, self.rows) for index in range(full)]
        if left and not (self._drop_last and first + full):
            pieces.append(Piece(first + full, full * self.rows, left))
        return pieces

    def _weights_of(self, places: Int64Array | None) -> torch.Tensor | None:
        if self._weights is None:
            return None
        assert places is not None  # they are known where there are weights
        return _tensor(self._weights(places))

    def _pinned(self, batch: Batch) -> Batch:
        if not self._pin:
            return batch
        inputs = batch.inputs
        return replace(
            batch,
            inputs={name: part.pin_memory() for name, part in inputs.items()}
            if isinstance(inputs, dict)
            else inputs.pin_memory(),
            labels=batch.labels.pin_memory(),
            weights=None if batch.weights is None else batch.weights.pin_memory(),
        )


def _range(labels: torch.Tensor) -> tuple[int, int] | None:
    """The smallest and the largest of integer labels."""
    if labels.is_floating_point() or not labels.numel():
        return None
    low, high = torch.aminmax(labels)
    return int(low), int(high)


def _tensor(weights: Float32Array) -> torch.Tensor:
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidInputError(
            "the training set has weights that are negative or not finite; "
            "expected a selection policy to give finite weights of at least 0"
        )
    return torch.from_numpy(np.require(weights, requirements=["C", "W"]))
