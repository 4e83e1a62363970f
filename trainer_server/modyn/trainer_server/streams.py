"""The batches of one epoch, made ahead in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from modyn.storage.batches import SampleBatch
from modyn.storage.prefetch import Prefetched
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.chunks import Chunk, ParsedChunk
from modyn.trainer_server.epochs import Reading
from modyn.trainer_server.kept import Kept
from modyn.trainer_server.making import Maker
from modyn.trainer_server.orders import Order

AnyKept = Kept[SampleBatch] | Kept[Batch]

AHEAD_BYTES = 32 << 20
"""Chunks that wait for the training, but for one that is larger."""

BLOCK_BYTES = 2 << 20
"""Aimed-at size of a chunk of samples from memory."""


class Stream:
    """The chunks of one epoch, made in a thread from now on. Iterate once; in the end, or before, :meth:`close` it.

    Args:
        epoch: its number.
        begin: how many of its batches were left out at its beginning.
        chunks: the thread iterates over them.
        reading: what they are made of; None: samples in memory.
    """

    def __init__(self, epoch: int, begin: int, chunks: Iterator[Chunk], reading: Reading | None = None) -> None:
        self.epoch = epoch
        self.begin = begin
        self.reading = reading
        self._chunks = Prefetched(
            chunks,
            max_bytes=AHEAD_BYTES,
            size=lambda chunk: chunk.nbytes,
            cancel=None if reading is None else reading.close,
        )

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._chunks)

    @property
    def all_taken(self) -> bool:
        """Whether there is no further chunk. Until the thread has found that out, there might be one."""
        return self._chunks.exhausted

    def close(self) -> None:
        """Ends the thread."""
        self._chunks.close()


def read_chunks(reading: Reading, maker: Maker, begin: int) -> Iterator[Chunk]:
    """Chunks of samples as storage answers them.

    Args:
        begin: number of the first batch.
    """
    number = begin
    for places, samples in reading:
        chunk = maker.chunk(samples, places, number)
        chunk.num_left_out = reading.num_left_out
        chunk.bytes_read = samples.nbytes
        number += -(-len(samples) // maker.rows)
        yield chunk


def kept_chunks(kept: AnyKept, order: Order | None, maker: Maker, begin: int) -> Iterator[Chunk]:
    """Chunks of samples that were kept.

    Args:
        order: positions in the training set; None: all as they are.
        begin: number of the first batch.
    """
    rows = maker.rows
    size = max(1, BLOCK_BYTES // max(1, kept.bytes_per_sample) // rows) * rows
    number = begin
    for places, samples in kept.blocks(order, size, begin * rows):
        if isinstance(samples, Batch):
            yield maker.from_memory(samples, places, number)
        else:
            yield maker.chunk(samples, places, number)
        number += -(-len(samples) // rows)


class Keeping:
    """Takes the samples of a whole epoch: as they are, and parsed where parsing them again would give the same.

    Args:
        max_bytes: most that is kept, of either.
        parsed: whether parsing samples again would give the same tensors.
    """

    def __init__(self, max_bytes: int, *, parsed: bool) -> None:
        self._samples: Kept[SampleBatch] | None = Kept(SampleBatch.join, max_bytes)
        self._tensors: Kept[Batch] | None = Kept(Batch.join, max_bytes) if parsed else None

    def add(self, chunk: Chunk) -> bool:
        """Keeps one more chunk; False if all together is too much."""
        assert chunk.samples is not None  # it was read
        if self._samples is not None and not self._samples.add(chunk.samples, chunk.places):
            self._samples = None
        if self._tensors is not None and not self._added(self._tensors, chunk):
            self._tensors = None
        return self._samples is not None or self._tensors is not None

    def finish(self, num_samples: int) -> AnyKept:
        """What was kept, of a training set of so many samples."""
        kept = self._tensors or self._samples
        assert kept is not None  # else adding had said so
        kept.finish(num_samples)
        return kept

    @staticmethod
    def _added(tensors: Kept[Batch], chunk: Chunk) -> bool:
        if not isinstance(chunk, ParsedChunk) or chunk.num_unlabelled:
            return False  # where labels are missing, batches are not cut from tensors alone
        # Models may change their inputs in place.
        return tensors.add(replace(chunk.whole.clone(), weights=None, places=None), chunk.places)
