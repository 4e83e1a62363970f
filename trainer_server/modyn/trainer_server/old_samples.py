"""Samples of the training sets of earlier triggers, drawn at random: for replay."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.config.training import EarlyStoppingSection
from modyn.core.draws import EPOCHS_PER_TRIGGER, Draws
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.core.randomness import Purpose, derived_seed, generator
from modyn.models.decoding import Decoder
from modyn.proto.selector_pb2 import DescribeTrainingSetRequest, TrainingSet
from modyn.proto.storage_pb2 import TRAINING, LabelsAsOf
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.storage.reader import SampleBatch, read_samples
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.parallel import Parallel
from modyn.trainer_server.training_sets import TrainingSamples, read_training_set
from modyn.trainer_server.validation import held_out

ROUNDS = 4
"""How often samples are drawn anew for those that were deleted, have no label or were drawn twice."""

_PROCESSES = 2**16


@dataclass(frozen=True)
class _Draw:
    """Which samples: the first ``count`` ones that come, in a batch of an epoch."""

    epoch: int
    batch: int
    count: int


class OldSamples:
    """Draws from the training sets of earlier triggers.

    A draw is a position of a training set, each with the same probability: a sample that was in several sets is drawn
    as often. It depends on (seed, trigger, epoch, batch) only. What was deleted since, or has no label as of the
    trigger, is never seen, nor is what early stopping holds out. Sets that are ranges of keys take no memory; of others
    the keys are held, 8 bytes each.

    Args:
        request: its seed, trigger, dataset and earlier training sets are used.
        labels: which labels the training set of the trigger was selected with; None: the newest.
        parallel: each process draws its own.
        stopping: what holds samples out; None: nothing does.
    """

    def __init__(
        self,
        request: TrainRequest,
        peers: Peers,
        decoder: Decoder,
        labels: LabelsAsOf | None,
        parallel: Parallel,
        *,
        stopping: EarlyStoppingSection | None = None,
    ) -> None:
        self._request = request
        self._peers = peers
        self._decoder = decoder
        self._labels = labels
        self._rank = parallel.rank
        self._stopping = stopping
        self._sets: list[TrainingSet] | None = None
        self._samples: dict[int, TrainingSamples] = {}
        self._background = ThreadPoolExecutor(1, "old-samples")
        self._ahead: tuple[_Draw, Future[list[SampleBatch]]] | None = None

    def draw(self, count: int, epoch: int, batch: int) -> Batch | None:
        """Distinct old samples, in no meaningful order, without weights.

        Args:
            count: how many; there may be fewer if so many are not left.
            epoch: of this trigger's training.
            batch: in the epoch; the samples of the next one are read meanwhile.

        Returns:
            None if there are none, as at the first trigger.
        """
        if not self._request.previous_training_sets or count < 1:
            return None
        wanted = _Draw(epoch, batch, count)
        if self._ahead is not None and self._ahead[0] == wanted:
            samples = self._ahead[1].result()
        else:
            samples = self._background.submit(self._read, wanted).result()
        following = _Draw(epoch, batch + 1, count)
        self._ahead = following, self._background.submit(self._read, following)
        parts = [self._decoded(part, epoch, batch) for part in samples]
        return Batch.join(parts) if parts else None

    def close(self) -> None:
        """Ends reading ahead."""
        self._background.shutdown(cancel_futures=True)

    def _decoded(self, samples: SampleBatch, epoch: int, batch: int) -> Batch:
        request = self._request
        draws = Draws(request.seed, request.trigger_index, epoch, samples.keys)
        inputs = self._decoder.inputs(samples.columns, draws, batch)
        return Batch(samples.keys, inputs, self._decoder.labels(samples.labels, draws, batch), None)

    def _read(self, draw: _Draw) -> list[SampleBatch]:
        request = self._request
        index = request.trigger_index * EPOCHS_PER_TRIGGER + draw.epoch
        seed = derived_seed(request.seed, Purpose.OLD_SAMPLES, index)
        random = generator(seed, Purpose.OLD_SAMPLES, draw.batch * _PROCESSES + self._rank)
        found: list[SampleBatch] = []
        seen: Int64Array = np.empty(0, dtype=np.int64)
        missing = draw.count
        for _ in range(ROUNDS):
            keys = np.setdiff1d(self._keys(random, missing), seen)
            seen = np.union1d(seen, keys)
            for samples in self._fetched(self._trained(keys)):
                found.append(samples)
                missing -= len(samples)
            if not missing:
                break
        return found

    def _keys(self, random: np.random.Generator, count: int) -> Int64Array:
        """Keys at random positions of all sets one after the other, int64 [at most count]."""
        ends = np.cumsum([training_set.num_samples for training_set in self._described()])
        total = int(ends[-1])
        positions = np.sort(random.choice(total, min(count, total), replace=False))
        which = np.searchsorted(ends, positions, side="right")
        parts = []
        for number in np.unique(which).tolist():
            start = int(ends[number - 1]) if number else 0
            parts.append(self._of(number).keys_at(positions[which == number] - start))
        return np.unique(np.concatenate(parts))

    def _trained(self, keys: Int64Array) -> Int64Array:
        """Those that are not held out."""
        return keys if self._stopping is None else keys[~held_out(keys, self._stopping, self._request.seed)]

    def _fetched(self, keys: Int64Array) -> list[SampleBatch]:
        if not len(keys):
            return []
        batches = read_samples(
            self._peers.storage,
            self._request.dataset,
            KeySet(array=keys),
            batch_size=len(keys),
            columns=self._decoder.columns,
            labels=self._labels,
            purpose=TRAINING,
        )
        return [kept for samples in batches if len(kept := _labelled(samples))]

    def _described(self) -> list[TrainingSet]:
        if self._sets is None:
            describe = self._peers.selector.DescribeTrainingSet
            digests = self._request.previous_training_sets
            self._sets = [describe(DescribeTrainingSetRequest(digest=digest)) for digest in digests]
        return self._sets

    def _of(self, number: int) -> TrainingSamples:
        if number not in self._samples:
            read = read_training_set(self._described()[number], self._peers)
            self._samples[number] = TrainingSamples(read.keys, None)
        return self._samples[number]


def _labelled(samples: SampleBatch) -> SampleBatch:
    if not samples.labels.null_count:
        return samples
    mask = pc.is_valid(samples.labels)
    keep = mask.to_numpy(zero_copy_only=False)
    return SampleBatch(
        samples.keys[keep],
        samples.labels.filter(mask),
        samples.timestamps[keep],
        {name: array.filter(mask) for name, array in samples.columns.items()},
    )
