"""A trigger's training set as the job holds it: keys and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array, concat_messages
from modyn.core.errors import CorruptDataError
from modyn.core.keysets import KeySet, ranges_from_proto
from modyn.core.peers import Peers
from modyn.core.rpc import arrow_stream
from modyn.proto.selector_pb2 import ReadTrainingSetRequest, TrainingSet

Float32Array = npt.NDArray[np.float32]


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
        return TrainingSamples(KeySet.from_array(self.keys.to_array()[positions]), weights)


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
