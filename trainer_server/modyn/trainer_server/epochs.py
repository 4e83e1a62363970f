"""One epoch's samples as storage answers them, with their places in the training set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from modyn.core.alignment import positions_in
from modyn.core.arrow import Int64Array
from modyn.core.keysets import KEYS_PER_MESSAGE, KeySet
from modyn.storage.batches import SampleBatch, SampleBlocks
from modyn.trainer_server.orders import Order, Straight
from modyn.trainer_server.training_sets import TrainingSamples

FIRST_KEYS = 1_024
"""Keys of an epoch's first request, so that its first batch comes soon; later ones are up to GROWTH times as large as
the one before."""

GROWTH = 4

Read = Callable[[Iterator[KeySet]], SampleBlocks]
"""Reads samples of key sets, many batches at a time."""


class Reading:
    """The samples of one epoch, read ahead from now on, in blocks of whole batches (but for the last block).

    The keys of the epoch are made request by request, so an epoch of any size begins at once. Iterate once.

    Args:
        read: asks storage.
        samples: the training set.
        order: in which they are read.
        rows: samples in a batch.
        begin: how many samples of the order to leave out at its beginning.
        with_places: whether to say where samples are in the training set.
    """

    def __init__(
        self, read: Read, samples: TrainingSamples, order: Order, rows: int, *, begin: int = 0, with_places: bool
    ) -> None:
        self._samples = samples
        self._order = order
        self._rows = rows
        self._begin = begin
        self._asked = _Asked() if with_places else None
        self.num_read = 0
        """Samples so far."""
        self.num_left_out = 0
        """Samples before the last one read, and in the end all, that storage no longer has; before the end this is
        known only with places."""
        self._blocks = read(self._parts())

    def __iter__(self) -> Iterator[tuple[Int64Array | None, SampleBatch]]:
        """Blocks, and the positions of their samples in the training set, int64 [n]."""
        for samples in self._blocks:
            self.num_read += len(samples)
            places = None
            if self._asked is not None:
                places = self._asked.places_of(samples.keys)
                self.num_left_out = self._asked.num_passed - self.num_read
            yield places, samples
        self.num_left_out = max(0, len(self._order) - self._begin) - self.num_read

    def close(self) -> None:
        """Stops reading."""
        self._blocks.close()

    def _parts(self) -> Iterator[KeySet]:
        """The keys of each request; in the thread that reads."""
        start, size = self._begin, FIRST_KEYS
        while start < len(self._order):
            stop = min(start + max(1, size // self._rows) * self._rows, len(self._order))
            keys = self._samples.keys_between(start, stop) if isinstance(self._order, Straight) else None
            if keys is None or self._asked is not None:
                places = self._order.at(np.arange(start, stop, dtype=np.int64))
                array = self._samples.keys_at(places)
                keys = keys or KeySet(array=array)
                if self._asked is not None:
                    self._asked.add(array, places)
            yield keys
            start, size = stop, min(size * GROWTH, KEYS_PER_MESSAGE)


class _Asked:
    """Keys that were asked for and are not answered yet. One thread adds them, another one looks them up."""

    def __init__(self) -> None:
        self._added: deque[tuple[Int64Array, Int64Array]] = deque()
        self._keys = self._places = np.empty(0, dtype=np.int64)
        self.num_passed = 0
        """Keys up to the last one that was answered."""

    def add(self, keys: Int64Array, places: Int64Array) -> None:
        """More keys, and their places in the training set, int64 [n] each; before they are asked for."""
        self._added.append((keys, places))

    def places_of(self, answered: Int64Array) -> Int64Array:
        """Places of the next samples that were answered, int64 [n].

        Raises:
            CorruptDataError: they were not asked for.
        """
        if self._added:
            new = [self._added.popleft() for _ in range(len(self._added))]
            self._keys = np.concatenate([self._keys, *(keys for keys, _ in new)])
            self._places = np.concatenate([self._places, *(places for _, places in new)])
        here = positions_in(self._keys, answered, 0)
        places = self._places[here]
        passed = here.stop if isinstance(here, slice) else int(here[-1]) + 1
        self._keys, self._places = self._keys[passed:], self._places[passed:]
        self.num_passed += passed
        return places
