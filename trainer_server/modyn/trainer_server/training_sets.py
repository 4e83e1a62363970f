"""A trigger's training set as the job holds it: keys and weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array, concat_messages
from modyn.core.errors import CorruptDataError
from modyn.core.keysets import KeyRange, KeySet, ranges_from_proto
from modyn.core.peers import Peers
from modyn.core.rpc import arrow_stream
from modyn.proto.selector_pb2 import ReadTrainingSetRequest, TrainingSet

Float32Array = npt.NDArray[np.float32]

SHORT_RANGE = 8
"""Ranges that hold fewer keys than this on average take more to send than their keys."""


@dataclass(frozen=True, eq=False)
class TrainingSamples:
    """What to train on: keys, and a weight for each (None: all 1), in the order of the training set."""

    keys: KeySet
    weights: Float32Array | None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: Int64Array) -> TrainingSamples:
        """Some of them."""
        weights = None if self.weights is None else self.weights[positions]
        return TrainingSamples(KeySet.from_array(self.keys_at(positions)), weights)

    def keys_at(self, positions: Int64Array) -> Int64Array:
        """Keys of the samples at some positions, int64 [k]."""
        if self.keys.array is not None:
            chosen: Int64Array = self.keys.array[positions]
            return chosen
        starts, offsets = self._ranges
        if len(starts) == 1:
            shifted: Int64Array = positions + starts[0]
            return shifted
        found = np.searchsorted(offsets, positions, side="right") - 1
        keys: Int64Array = positions + (starts - offsets[:-1])[found]
        return keys

    def keys_between(self, start: int, stop: int) -> KeySet:
        """Keys of consecutive samples, at least one; ranges stay ranges where they are long."""
        if self.keys.array is not None:
            return KeySet(array=self.keys.array[start:stop])
        starts, offsets = self._ranges
        first, last = np.searchsorted(offsets, (start, stop - 1), side="right").tolist()
        if (last - first) * SHORT_RANGE > stop - start:
            return KeySet(array=self.keys_at(np.arange(start, stop, dtype=np.int64)))
        lows = (np.maximum(offsets[first - 1 : last], start) + (starts - offsets[:-1])[first - 1 : last]).tolist()
        highs = (np.minimum(offsets[first : last + 1], stop) + (starts - offsets[:-1])[first - 1 : last]).tolist()
        return KeySet(ranges=tuple(map(KeyRange, lows, highs)))

    @cached_property
    def _ranges(self) -> tuple[Int64Array, Int64Array]:
        """First keys of the ranges, int64 [r], and the positions where they begin, and the end, int64 [r + 1]."""
        ranges = self.keys.ranges or ()
        bounds = np.array([(r.start, r.end) for r in ranges], dtype=np.int64).reshape(-1, 2)
        return bounds[:, 0], np.concatenate(([0], np.cumsum(bounds[:, 1] - bounds[:, 0])))


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
