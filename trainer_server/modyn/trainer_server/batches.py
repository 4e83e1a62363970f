"""A training set as batches of tensors, in an order that depends on (seed, trigger, epoch) only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from modyn.core.arrow import Int64Array
from modyn.core.draws import EPOCHS_PER_TRIGGER as EPOCHS_PER_TRIGGER  # noqa: PLC0414 - also found here
from modyn.core.plugins.downsampling import Choice
from modyn.models.decoding import Decoder
from modyn.models.workers import ParserPool
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.chunks import Chunk
from modyn.trainer_server.completeness import all_usable
from modyn.trainer_server.kept import KEEP_BYTES
from modyn.trainer_server.opening import Opener
from modyn.trainer_server.orders import Share
from modyn.trainer_server.parallel import ALONE, Parallel
from modyn.trainer_server.streams import AnyKept, Keeping, Stream
from modyn.trainer_server.training_sets import TrainingSamples
from modyn.trainer_server.transfer import transferred

CPU = torch.device("cpu")

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

    Batches hold ``batch_size`` of the samples that storage still has, in the order of the epoch; samples without a
    label are then left out of them. Threads read and, where the decoder allows that, parse many batches at once, ahead
    of the training; batches are the same whoever parses them, and however they are read or kept.

    With several processes, each gets its rows of every batch that one process alone would get. Where all samples of the
    set are there and have labels, a process reads its own rows only; else it reads all batches and cuts them.

    Args:
        stub: storage.
        dataset: where the keys point to.
        samples: what to train on.
        decoder: makes tensors of them.
        batch_size: samples in a batch of all processes.
        drop_last: leave out a last batch that is not full.
        shuffle: the seed and trigger index of the order; None keeps the order of the training set.
        draws: the seed and trigger index of what parsing draws; None: samples are parsed as an evaluation would.
        labels: which labels the training set was selected with; None: the newest.
        keep_bytes: sets up to this size stay in memory after they were read as a whole.
        parallel: the processes of the training.
        pool: parses batches, where the decoder cannot parse many at once; None: the training's own thread does.
        device: where the model is.
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
        draws: tuple[int, int] | None = None,
        labels: LabelsAsOf | None = None,
        keep_bytes: int = KEEP_BYTES,
        parallel: Parallel = ALONE,
        pool: ParserPool | None = None,
        device: torch.device = CPU,
    ) -> None:
        self._opener = Opener(
            stub=stub,
            dataset=dataset,
            samples=samples,
            decoder=decoder,
            batch_size=batch_size,
            drop_last=drop_last,
            shuffle=shuffle,
            draws=draws,
            labels=labels,
            pool=pool,
            pin=device.type == "cuda",
        )
        self._samples = samples
        self.batch_size = batch_size
        self._keep_bytes = keep_bytes if parallel.size == 1 else 0  # a process reads other samples in each epoch
        self._parallel = parallel
        self._device = device
        self._narrowing: Narrowing | None = None
        self._ahead: Stream | None = None
        self._kept: AnyKept | None = None
        self._too_large = False
        self._usable: bool | None = None
        self.num_unlabelled = 0
        """Samples of the set that have no label, once all were read; they are left out."""
        self.num_deleted = 0
        """Samples of the set that storage no longer has, as far as it was read; all, once an epoch is over."""
        self.bytes_read = 0
        """Of samples that came from storage."""

    def __len__(self) -> int:
        """Samples in the set."""
        return len(self._samples)

    @property
    def parse_seconds(self) -> float:
        """That parsing took in the thread that trains."""
        return self._opener.clock.seconds

    def narrow(self, narrowing: Narrowing) -> None:
        """Makes epochs consist of what it says; before the first one."""
        self._narrowing = narrowing

    def prefetch(self, epoch: int) -> None:
        """Starts reading an epoch in the background."""
        if self._parallel.size == 1:  # else it takes all processes to know what each of them reads
            self._ahead = self._stream(epoch)

    def everything(self, batch_size: int) -> Iterator[Batch]:
        """All samples once, in the order of the set, with their places but without weights and augmentation.

        Sets that are small enough stay in memory from then on.
        """
        yield from self._batches(self._of_everything(batch_size), keep=True)

    def load(self) -> Int64Array | None:
        """Reads the whole set into memory, if it is small enough: for epochs that each need other samples of it.

        Returns:
            Positions in the set of the samples that storage still has, ascending, int64; None: it was not read.
        """
        if self._keeps:
            stream, keeping = self._of_everything(self.batch_size), self._keeping()
            try:
                for chunk in stream:
                    self._count(chunk)
                    if not keeping.add(chunk):
                        self._too_large = True
                        return None
            finally:
                stream.close()
            self._finished(stream, keeping)
        return None if self._kept is None else self._kept.places

    def epoch(self, epoch: int, *, last: bool = True, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch but for the first ``skip``; epochs come in order."""
        share = self._share(epoch)
        begin = skip if skip and self._all_usable() else 0  # else nobody knows where that batch begins
        batches = self._epoch(epoch, begin, share, last)
        if skip > begin:
            batches = itertools.islice(batches, skip - begin, None)
        if share is not None:
            batches = _completed(batches, share, begin)
        elif self._parallel.size > 1:
            batches = (batch.share(self._parallel.rows(len(batch))) for batch in batches)
        if self._device.type == "cuda":
            batches = transferred(batches, self._device)
        yield from batches

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

    # --------------------------------------------------------------------------------------------------- an epoch

    def _epoch(self, epoch: int, begin: int, share: Share | None, last: bool) -> Iterator[Batch]:
        """Small sets are read once only; of large ones the next epoch is being read meanwhile, if it is known."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (ahead.epoch, ahead.begin) != (epoch, begin):
            ahead.close()
            ahead = None
        stream = ahead or self._stream(epoch, begin, share)
        whole = self._narrowing is None or self._narrowing.fixed or self._choice(epoch) is None
        more = not last and (self._narrowing is None or self._narrowing.known(epoch + 1))
        yield from self._batches(stream, keep=whole and not begin and not last, then=epoch + 1 if more else None)

    def _batches(self, stream: Stream, *, keep: bool, then: int | None = None) -> Iterator[Batch]:
        """
        Args:
            keep: whether these are all samples that any later epoch asks for.
            then: epoch that is begun once this one is made.
        """
        keeping = self._keeping() if keep and self._keeps else None
        unlabelled = 0
        try:
            for chunk in stream:
                self._count(chunk)
                unlabelled += chunk.num_unlabelled
                self.num_unlabelled = max(self.num_unlabelled, unlabelled)
                if keeping is not None and not keeping.add(chunk):
                    self._too_large, keeping = True, None
                if stream.all_taken:
                    self._finished(stream, keeping)
                    keeping = None
                    if then is not None:
                        self.prefetch(then)
                        then = None
                yield from chunk.batches()
        finally:
            stream.close()
        self._finished(stream, keeping)

    def _count(self, chunk: Chunk) -> None:
        self.num_deleted = max(self.num_deleted, chunk.num_left_out)
        self.bytes_read += chunk.bytes_read

    def _finished(self, stream: Stream, keeping: Keeping | None) -> None:
        """All of a stream was taken."""
        if stream.reading is not None:
            self.num_deleted = max(self.num_deleted, stream.reading.num_left_out)
        if keeping is not None:
            self._kept = keeping.finish(len(self._samples))

    @property
    def _keeps(self) -> bool:
        """Whether what is read next may be kept."""
        return self._kept is None and not self._too_large and self._keep_bytes > 0

    def _stream(self, epoch: int, begin: int = 0, share: Share | None = None) -> Stream:
        narrowed = self._narrowing is not None
        return self._opener.epoch(epoch, self._choice(epoch), self._kept, begin, share, places=narrowed)

    def _of_everything(self, batch_size: int) -> Stream:
        return self._opener.everything(batch_size, self._kept, places=self._narrowing is not None)

    def _choice(self, epoch: int) -> Choice | None:
        return None if self._narrowing is None else self._narrowing.choice(epoch)

    def _keeping(self) -> Keeping:
        return Keeping(self._keep_bytes, parsed=self._opener.decoder.repeatable)

    def _share(self, epoch: int) -> Share | None:
        """What this process reads of an epoch, if it need not read all of it."""
        if self._parallel.size == 1 or not self._all_usable():
            return None
        order = self._opener.order(epoch, self._choice(epoch))
        return Share(order, self.batch_size, self._parallel, drop_last=self._opener.drop_last)

    def _all_usable(self) -> bool:
        """Of all processes together, each of which has to ask."""
        if self._usable is None:
            what = self._opener
            usable = self._parallel.is_main and all_usable(what.stub, what.dataset, self._samples.keys, what.labels)
            self._usable = self._parallel.agreed(usable)
        return self._usable


def _completed(batches: Iterator[Batch], share: Share, begin: int) -> Iterator[Batch]:
    """The batches of one process, one for each batch of all processes together.

    Samples that are deleted while processes train leave too few for the last ones; there the process takes part with
    padding, as the others could not go on without it.
    """
    number, latest = begin, None
    for latest in batches:
        of = share.size_of(number)
        yield latest.as_padding(of) if share.is_padding(number) else replace(latest, of=of)
        number += 1
    if latest is not None:
        for missing in range(number, share.num_batches):
            yield latest.take(slice(0, 1)).as_padding(share.size_of(missing))
