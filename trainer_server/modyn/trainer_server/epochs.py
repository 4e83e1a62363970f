"""One epoch's samples as storage answers them, with their places in the training set."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future

import numpy as np

from modyn.core.alignment import positions_in
from modyn.core.arrow import Int64Array
from modyn.storage.reader import SampleBatch


class Epoch:
    """The samples of one epoch. Its first batch is read in the background, from now on; the rest where it is
    consumed (what the reader itself fetches ahead is its own matter).

    Args:
        requested: the keys in the order they are read in, int64 [n]; None if nobody asks for positions.
        order: their positions in the training set, int64 [n]; None: 0, 1, 2 …
        num_requested: n.
    """

    def __init__(
        self,
        number: int,
        reader: Generator[SampleBatch],
        requested: Int64Array | None,
        order: Int64Array | None,
        num_requested: int,
    ) -> None:
        self.number = number
        self.num_requested = num_requested
        self._reader = reader
        self._requested = requested
        self._order = order
        self.num_read = 0
        """Samples so far."""
        self.num_left_out = 0
        """Samples before the last one read that storage did not answer; known only where positions are."""
        self._first: Future[list[SampleBatch]] = Future()
        self._thread = threading.Thread(target=self._fetch, name="ahead", daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            self._first.set_result(list(itertools.islice(self._reader, 1)))
        except BaseException as error:  # noqa: BLE001 - raised where it is consumed
            self._first.set_exception(error)

    def placed(self) -> Iterator[tuple[Int64Array | None, SampleBatch]]:
        """Batches, and the positions of their samples in the training set, int64 [n]."""
        position = 0
        for samples in itertools.chain(self._first.result(), self._reader):
            self.num_read += len(samples)
            places = None
            if self._requested is not None and len(samples):
                here = positions_in(self._requested, samples.keys, position)
                position = here.stop if isinstance(here, slice) else int(here[-1]) + 1
                self.num_left_out = position - self.num_read
                if self._order is not None:
                    places = self._order[here]
                else:
                    places = np.arange(here.start, here.stop) if isinstance(here, slice) else here
            yield places, samples

    def close(self) -> None:
        self._thread.join()
        self._reader.close()
