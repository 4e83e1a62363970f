"""Some batches of an epoch: tensors to cut them from, or samples to parse batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

from modyn.core.arrow import Int64Array
from modyn.storage.batches import SampleBatch
from modyn.trainer_server.batch import Batch, Inputs

if TYPE_CHECKING:
    from modyn.trainer_server.making import Maker


@dataclass(frozen=True)
class Piece:
    """The rows of a block that are one batch.

    Attributes:
        number: of the batch in its epoch.
        start: its first row.
        size: how many it has; 0 if none of its samples has a label.
    """

    number: int
    start: int
    size: int


@dataclass
class Chunk(ABC):
    """Some batches, in order.

    Attributes:
        samples: what they are made of, with samples that have no label; None if it came from memory.
        places: of these in the training set, int64 [n], if they are known.
        pieces: the batches.
        num_unlabelled: samples that have no label.
        num_left_out: samples that storage no longer had, of the epoch so far.
        bytes_read: of samples that came from storage for it.
    """

    samples: SampleBatch | None
    places: Int64Array | None
    pieces: Sequence[Piece]
    num_unlabelled: int = field(default=0, kw_only=True)
    num_left_out: int = field(default=0, kw_only=True)
    bytes_read: int = field(default=0, kw_only=True)

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Asked once, in the thread that trains.

        Raises:
            ModynError: samples cannot be parsed; raised at the batch that they are in.
        """

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return 0 if self.samples is None else self.samples.nbytes


@dataclass
class ParsedChunk(Chunk):
    """Tensors, which batches are slices of.

    Attributes:
        whole: all labelled samples, also those that no piece has.
    """

    whole: Batch

    def batches(self) -> Iterator[Batch]:
        whole, pieces = self.whole, self.pieces
        # One call cuts a tensor into all its parts; a slice for each costs a small batch as much as its loss does.
        used = sum(piece.size for piece in pieces)
        sizes = [*(piece.size for piece in pieces), len(whole) - used]
        labels = whole.labels.split(sizes)
        weights = repeat(None) if whole.weights is None else whole.weights.split(sizes)
        for piece, x, y, w in zip(pieces, _split(whole.inputs, sizes), labels, weights, strict=False):
            if piece.size:
                rows = slice(piece.start, piece.start + piece.size)
                places = None if whole.places is None else whole.places[rows]
                yield Batch(whole.keys[rows], x, y, w, places, whole.label_range)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.whole.nbytes


@dataclass
class UnparsedChunk(Chunk):
    """Samples that are parsed batch by batch, as batches are asked for.

    Attributes:
        labelled: the samples that have a label.
        labelled_places: of these.
        maker: parses them.
        futures: for each piece what the pool of parsers makes of it; None: nobody works at them.
    """

    labelled: SampleBatch
    labelled_places: Int64Array | None
    maker: Maker
    futures: Sequence[Future[Inputs]] | None = None

    def batches(self) -> Iterator[Batch]:
        for index, piece in enumerate(self.pieces):
            if piece.size:
                rows = slice(piece.start, piece.start + piece.size)
                yield self.maker.batch(
                    self.labelled.slice(piece.start, piece.size),
                    None if self.labelled_places is None else self.labelled_places[rows],
                    piece.number,
                    None if self.futures is None else self.futures[index],
                )


def _split(inputs: Inputs, sizes: Sequence[int]) -> Iterator[Inputs]:
    if isinstance(inputs, dict):
        for parts in zip(*(part.split(sizes) for part in inputs.values()), strict=True):
            yield dict(zip(inputs, parts, strict=True))
    else:
        yield from inputs.split(sizes)
