"""What a prediction job reads: threads read ahead, and decode where nobody else does; what cannot be read is left out.

Batches hold ``batch_size`` of the samples that storage still has, in the order of the job's keys, but for those that
samples were left out of, and the one after which reading had to begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import torch

from modyn.core.alignment import positions_in
from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, ModynError
from modyn.core.keysets import KeySet
from modyn.evaluator.isolating import Isolation
from modyn.models.decoding import Decoder
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.batches import SampleBatch, SampleBlocks, request_keys
from modyn.storage.prefetch import Prefetched

Inputs = torch.Tensor | dict[str, torch.Tensor]
Places = slice | Int64Array
"""Positions of samples among the job's keys, ascending."""

AHEAD_BYTES = 32 << 20
"""Samples that wait for the models, decoded or not, but for a block that is larger."""


@dataclass(frozen=True)
class Lost:
    """Samples that cannot be read or decoded.

    Attributes:
        keys: int64 [n].
        error: of the first of them.
    """

    keys: Int64Array
    error: ModynError


@dataclass(frozen=True, eq=False)
class Batch:
    """n samples to show to models, at once or batch by batch.

    Attributes:
        inputs: what they are decoded to, if somebody did already.
    """

    samples: SampleBatch
    places: Places
    inputs: Inputs | None

    def __len__(self) -> int:
        return len(self.samples)

    def position(self, row: int) -> int:
        """Of one of its samples among the job's keys."""
        return self.places.start + row if isinstance(self.places, slice) else int(self.places[row])

    @property
    def end(self) -> int:
        """Position after its last sample."""
        return self.position(len(self) - 1) + 1

    def part(self, first: int, count: int) -> Batch:
        """Some consecutive ones, without a copy."""
        rows = slice(first, first + count)
        inputs = self.inputs
        if isinstance(inputs, dict):
            inputs = {name: tensor[rows] for name, tensor in inputs.items()}
        elif inputs is not None:
            inputs = inputs[rows]
        return Batch(self.samples.slice(first, count), part_of(self.places, first, count), inputs)

    def cut(self, size: int) -> Iterator[Batch]:
        """Batches of a size; the last may be smaller."""
        count = len(self)
        if count <= size:
            yield self
            return
        cut = None if self.inputs is None else list(_cut(self.inputs, size))
        for index, start in enumerate(range(0, count, size)):
            rows = min(size, count - start)
            yield Batch(
                self.samples.slice(start, rows),
                part_of(self.places, start, rows),
                None if cut is None else cut[index],
            )


@dataclass(frozen=True, eq=False)
class Block:
    """Some whole batches.

    Attributes:
        samples: of all of them; may be none.
        places: of the samples.
        inputs: all decoded; None: that is for whoever shows them, batch by batch.
        lost: what could not be read before or among them.
    """

    samples: SampleBatch | None
    places: Places
    inputs: Inputs | None = None
    lost: tuple[Lost, ...] = field(default=())

    @cached_property
    def bytes_read(self) -> int:
        """Of its samples, as they came from storage."""
        return 0 if self.samples is None else self.samples.nbytes

    @cached_property
    def nbytes(self) -> int:
        """How much memory it takes."""
        tensors = self.inputs.values() if isinstance(self.inputs, dict) else [self.inputs]
        return self.bytes_read + sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @property
    def whole(self) -> Batch | None:
        """All samples; None: there are none."""
        return None if self.samples is None else Batch(self.samples, self.places, self.inputs)


def part_of(places: Places, start: int, count: int) -> Places:
    """Some consecutive ones."""
    if isinstance(places, slice):
        return slice(places.start + start, places.start + start + count)
    return places[start : start + count]


class SampleReader:
    """Reads and decodes samples in threads.

    Args:
        stub: of the storage service.
        dataset: its name.
        keys: what to read, int64 [n].
        batch_size: samples in a batch.
        decoder: decodes blocks, where it can decode many batches at once.

    Attributes:
        decodes: whether it decodes at all; may change while it reads.
    """

    def __init__(self, stub: StorageStub, dataset: str, keys: Int64Array, *, batch_size: int, decoder: Decoder) -> None:
        self._stub = stub
        self._dataset = dataset
        self._keys = keys
        self._batch_size = batch_size
        self._decoder = decoder
        self.decodes = decoder.parses_batches
        self._isolation = Isolation()
        self._stopped = False
        self._open: SampleBlocks | None = None

    def blocks(self) -> Prefetched[Block]:
        """All of them, in order; asked once. Reading begins now and ends when that is closed.

        Iterating raises ModynError: nothing can be read, for a reason other than damaged samples.
        """
        return Prefetched(
            self._blocks(0, len(self._keys)),
            max_bytes=AHEAD_BYTES,
            size=lambda block: block.nbytes,
            cancel=self._stop,
        )

    def _stop(self) -> None:
        self._stopped = True
        if (blocks := self._open) is not None:
            blocks.close()

    def _blocks(self, start: int, end: int) -> Iterator[Block]:
        """Of the keys ``start … end - 1``. Where one cannot be read, what is not read yet is asked for in halves."""
        position = start
        try:
            for samples in self._stream(start, end):
                if not len(samples):
                    continue
                places = positions_in(self._keys, samples.keys, position)
                position = places.stop if isinstance(places, slice) else int(places[-1]) + 1
                self._isolation.worked()
                yield self._decoded(samples, places)
            return
        except CorruptDataError as caught:
            if self._stopped:
                return
            error = caught
        if self._isolation.is_hopeless:
            yield Block(None, slice(0, 0), lost=(Lost(self._keys[position:end], error),))
        elif end - position <= self._batch_size:
            yield self._without_damaged(position, end)
        else:
            middle = position + max(1, (end - position) // self._batch_size // 2) * self._batch_size
            yield from self._blocks(position, middle)
            yield from self._blocks(middle, end)

    def _without_damaged(self, start: int, end: int) -> Block:
        """What can be read of one batch."""
        parts: list[SampleBatch] = []
        lost: list[Lost] = []
        for stretch in self._isolation.stretches(start, end, self._read):
            if stretch.error is not None:
                lost.append(Lost(self._keys[stretch.start : stretch.end], stretch.error))
            else:
                parts += stretch.value or ()
        if not parts:
            return Block(None, slice(0, 0), lost=tuple(lost))
        samples = SampleBatch.join(parts)
        places = positions_in(self._keys, samples.keys, start)
        return Block(samples, places, lost=tuple(lost))

    def _read(self, start: int, end: int) -> list[SampleBatch]:
        return [samples for samples in self._stream(start, end) if len(samples)]

    def _stream(self, start: int, end: int) -> Iterator[SampleBatch]:
        if self._stopped:
            return
        keys = KeySet.from_array(self._keys[start:end])
        blocks = SampleBlocks(
            self._stub,
            self._dataset,
            request_keys(keys, self._batch_size),
            batch_size=self._batch_size,
            columns=self._decoder.columns,
        )
        self._open = blocks
        with closing(blocks):
            yield from blocks

    def _decoded(self, samples: SampleBatch, places: Places) -> Block:
        if self.decodes:
            try:
                return Block(samples, places, self._decoder.inputs(samples.columns))
            except ModynError:
                pass  # one of the batches is to blame, and is found when it is its turn
        return Block(samples, places)


class Decoding:
    """Decodes batches, and finds the samples that cannot be.

    Args:
        decode: makes the inputs of some payload columns.
    """

    def __init__(self, decode: Callable[[Mapping[str, pa.Array]], Inputs]) -> None:
        self._decode = decode
        self._isolation = Isolation()

    @property
    def is_hopeless(self) -> bool:
        """Nothing could be decoded, and it was tried often enough."""
        return self._isolation.is_hopeless

    def worked(self) -> None:
        """Somebody else could decode something."""
        self._isolation.worked()

    def inputs(self, batch: Batch) -> tuple[Batch | None, list[Lost]]:
        """The batch with its inputs, without the samples that cannot be decoded; None if none can.

        Raises:
            ModynError: an error that is not about single samples.
        """
        if batch.inputs is not None:
            self._isolation.worked()
            return batch, []
        samples = batch.samples
        found = list(
            self._isolation.stretches(
                0, len(samples), lambda start, end: self._decode(samples.slice(start, end - start).columns)
            )
        )
        if len(found) == 1 and found[0].value is not None:
            return Batch(samples, batch.places, found[0].value), []
        lost = [Lost(samples.keys[part.start : part.end], part.error) for part in found if part.error is not None]
        good = [(part.start, part.end - part.start) for part in found if part.error is None]
        if not good:
            return None, lost
        left = SampleBatch.join([samples.slice(*part) for part in good])
        places = positions_in(samples.keys, left.keys, 0)
        if isinstance(batch.places, slice):
            shift = batch.places.start
            places = slice(places.start + shift, places.stop + shift) if isinstance(places, slice) else places + shift
        else:
            places = batch.places[places]
        try:
            return Batch(left, places, self._decode(left.columns)), lost
        except ModynError as error:  # only together are they wrong
            return None, [*lost, Lost(left.keys, error)]


def _cut(inputs: Inputs, size: int) -> Iterator[Inputs]:
    # One call cuts a tensor into all its parts.
    if isinstance(inputs, dict):
        for parts in zip(*(torch.split(tensor, size) for tensor in inputs.values()), strict=True):
            yield dict(zip(inputs, parts, strict=True))
    else:
        yield from torch.split(inputs, size)
