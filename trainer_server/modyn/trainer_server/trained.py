"""The record of what a training really used: keys and weights of each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array, batch_of, rows_per_message, slices
from modyn.proto.selector_pb2_grpc import SelectorStub
from modyn.selector.reader import store_sample_columns

KIND = "trained"
"""Of its sample columns: epoch int32, key int64, weight float32."""

AUXILIARY_EPOCH = -1
"""Of samples that only an auxiliary model was trained on."""

BYTES_PER_ROW = 16

Float32Array = npt.NDArray[np.float32]


class TrainedRecord:
    """What a training used, taken down batch by batch, and stored as sample columns in the end.

    An epoch is there only if it trained something else than the epoch before; within an epoch, rows ascend by key, then
    by weight, and a sample that was trained twice has two rows. An epoch that trained nothing has no rows, and the next
    one is there whatever it trained. Rows of epoch -1 come first: samples that only an auxiliary model was trained on,
    each once with weight 1.

    In memory are the batches of the epoch under way (12 bytes a sample) and the kept epochs, whose keys mostly take a
    byte each, and whose weights none if all are equal.

    >>> record = TrainedRecord()
    >>> for keys in ([7, 3], [3, 7], [3]):
    ...     record.add(np.array(keys), None)
    ...     record.end_epoch()
    >>> record.add_auxiliary(np.array([9, 7]))
    >>> [batch.to_pydict() for batch in record.batches()]  # doctest: +NORMALIZE_WHITESPACE
    [{'epoch': [-1], 'key': [9], 'weight': [1.0]},
     {'epoch': [0, 0], 'key': [3, 7], 'weight': [1.0, 1.0]},
     {'epoch': [2], 'key': [3], 'weight': [1.0]}]
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._pending: list[tuple[Int64Array, Float32Array | None]] = []
        self._kept: list[tuple[int, _Samples]] = []
        self._last: _Samples | None = None
        self._auxiliary: list[Int64Array] = []

    def add(self, keys: Int64Array, weights: Float32Array | None) -> None:
        """A batch that was trained in the epoch under way.

        Args:
            keys: int64 [b].
            weights: float32 [b], by which the losses were multiplied; None: all 1.
        """
        kept = None if weights is None else np.array(weights, dtype=np.float32)
        self._pending.append((np.array(keys, dtype=np.int64), kept))

    def add_auxiliary(self, keys: Int64Array) -> None:
        """Samples that an auxiliary model was trained on, int64 [n], in any order, repeated ones too."""
        self._auxiliary.append(np.unique(np.asarray(keys, dtype=np.int64)))

    def end_epoch(self) -> None:
        """The next batch belongs to the next epoch."""
        samples = _Samples.of(self._pending)
        self._pending = []
        if samples is not None and (self._last is None or not samples.equals(self._last)):
            self._kept.append((self._epoch, samples))
        self._last = samples
        self._epoch += 1

    def store(self, stub: SelectorStub, dataset: str) -> str:
        """Stores the record, an epoch under way too; the digest of its sample columns.

        Raises:
            ModynError: the selector cannot store it.
        """
        return store_sample_columns(stub, dataset, KIND, self.batches())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The record in batches of about 1 MiB, at least one: epoch int32, key int64, weight float32."""
        if self._pending:
            self.end_epoch()
        only_auxiliary = self._only_auxiliary()
        if len(only_auxiliary) or not self._kept:
            yield from _batches(AUXILIARY_EPOCH, only_auxiliary, None)
        for epoch, samples in self._kept:
            yield from _batches(epoch, samples.keys(), samples.weights)

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        same = bool(self._kept) and self._kept[-1][1] is self._last
        return {
            "epoch": self._epoch,
            "pending": [list(batch) for batch in self._pending],
            "kept": [[epoch, samples.state()] for epoch, samples in self._kept],
            "last_is_kept": same,
            "last": None if self._last is None or same else self._last.state(),
            "auxiliary": list(self._auxiliary),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self._epoch = state["epoch"]
        self._pending = [(keys, weights) for keys, weights in state["pending"]]
        self._kept = [(epoch, _Samples(*samples)) for epoch, samples in state["kept"]]
        self._last = None if state["last"] is None else _Samples(*state["last"])
        if state["last_is_kept"]:
            self._last = self._kept[-1][1]
        self._auxiliary = list(state["auxiliary"])

    def _only_auxiliary(self) -> Int64Array:
        keys = np.unique(np.concatenate([np.empty(0, np.int64), *self._auxiliary]))
        for _, samples in self._kept:
            keys = np.setdiff1d(keys, samples.keys()) if len(keys) else keys
        return keys


@dataclass(frozen=True, eq=False)
class _Samples:
    """What an epoch trained, n > 0 samples, compactly.

    Attributes:
        first: the smallest key.
        steps: from each key to the next, in the smallest unsigned type that holds all, [n - 1].
        weights: float32 [n], or [1] if all are equal.
    """

    first: int
    steps: npt.NDArray[np.unsignedinteger]
    weights: Float32Array

    @staticmethod
    def of(batches: list[tuple[Int64Array, Float32Array | None]]) -> _Samples | None:
        """None if there are none."""
        if not sum(len(keys) for keys, _ in batches):
            return None
        keys = np.concatenate([keys for keys, _ in batches])
        weights = np.ones(1, np.float32)
        if any(weights is not None for _, weights in batches):
            weights = np.concatenate([np.ones(len(k), np.float32) if w is None else w for k, w in batches])
            order = np.lexsort((weights, keys))
            keys, weights = keys[order], weights[order]
            if (weights == weights[0]).all():
                weights = weights[:1].copy()
        else:
            keys = np.sort(keys)
        steps = np.diff(keys).astype(np.uint64)
        return _Samples(int(keys[0]), steps.astype(np.min_scalar_type(steps.max(initial=0))), weights)

    def state(self) -> list[Any]:
        """For checkpoints: the arguments that make it again."""
        return [self.first, self.steps, self.weights]

    def keys(self) -> Int64Array:
        """Ascending, int64 [n]."""
        keys = np.empty(len(self.steps) + 1, dtype=np.int64)
        keys[0] = self.first
        keys[1:] = self.steps
        return np.cumsum(keys, out=keys)

    def equals(self, other: _Samples) -> bool:
        return (
            self.first == other.first
            and np.array_equal(self.steps, other.steps)
            and np.array_equal(self.weights, other.weights)
        )


def _batches(epoch: int, keys: Int64Array, weights: Float32Array | None) -> Iterator[pa.RecordBatch]:
    """
    Args:
        weights: float32 [n] or [1], one for all; None: all 1.
    """
    if weights is None or len(weights) != len(keys):
        weights = np.broadcast_to(np.ones(1, np.float32) if weights is None else weights, len(keys))
    for part in slices(len(keys), rows_per_message(BYTES_PER_ROW)) if len(keys) else [slice(0, 0)]:
        here = keys[part]
        epochs = np.full(len(here), epoch, dtype=np.int32)
        yield batch_of(epoch=epochs, key=here, weight=np.ascontiguousarray(weights[part]))
