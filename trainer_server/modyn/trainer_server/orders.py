"""Orders in which the samples of a training set are read."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.parallel import Parallel


class Order(Protocol):
    """Positions in a training set, one after the other."""

    def __len__(self) -> int: ...

    def at(self, turns: Int64Array) -> Int64Array:
        """Whose turn it is: what comes at each of these places of the order, which count from 0; int64 [k]."""


class Straight:
    """As they are: 0 … n - 1."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def at(self, turns: Int64Array) -> Int64Array:
        return turns


class Listed:
    """As a list says.

    Args:
        positions: int64 [n].
    """

    def __init__(self, positions: Int64Array) -> None:
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def at(self, turns: Int64Array) -> Int64Array:
        return self._positions[turns]


class Share:
    """What one of several processes trains of an order: its rows of each batch.

    A process without rows in a batch gets one of the batch's samples, which counts for nothing (see
    :attr:`modyn.trainer_server.batch.Batch.padding`), because all processes have to take part in all batches.

    Args:
        whole: the order of all processes together.
        batch_size: samples in a batch of all processes together; the last may have fewer.
        parallel: the processes.
        drop_last: leave out a last batch that is not full, unless it is the only one.
    """

    def __init__(self, whole: Order, batch_size: int, parallel: Parallel, *, drop_last: bool) -> None:
        self._whole = whole
        self._batch_size = batch_size
        self._parallel = parallel
        full = len(whole) // batch_size
        self.num_batches = full if drop_last and full else -(-len(whole) // batch_size)
        self.rows = self._rows_of(batch_size)[1]
        """Samples in a full batch of this process."""
        self._size = max(0, self.num_batches - 1) * self.rows
        if self.num_batches:
            self._size += self._rows_of(self.size_of(self.num_batches - 1))[1]

    def __len__(self) -> int:
        return self._size

    def at(self, turns: Int64Array) -> Int64Array:
        batches, rows = np.divmod(turns, self.rows)
        firsts = np.full(len(turns), self._rows_of(self._batch_size)[0])
        last = batches == self.num_batches - 1
        if last.any():
            firsts[last] = self._rows_of(self.size_of(self.num_batches - 1))[0]
        return self._whole.at(batches * self._batch_size + firsts + rows)

    def size_of(self, batch: int) -> int:
        """Samples in a batch of all processes together."""
        return min(self._batch_size, len(self._whole) - batch * self._batch_size)

    def is_padding(self, batch: int) -> bool:
        """Whether this process has no row in a batch."""
        rows = self._parallel.rows(self.size_of(batch))
        return bool(rows.start == rows.stop)

    def _rows_of(self, count: int) -> tuple[int, int]:
        """Where this process's rows of a batch begin, and how many there are: at least one."""
        rows = self._parallel.rows(count)
        return min(rows.start, count - 1), max(1, rows.stop - rows.start)
