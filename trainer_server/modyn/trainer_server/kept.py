"""Samples of a training set that fits in memory: read once, served in every epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array, slices
from modyn.storage.reader import SampleBatch

KEEP_BYTES = 256 << 20
"""Largest payload that is kept, in bytes."""


class KeptSamples:
    """Collects the batches of one epoch and then serves them in any other order.

    What is kept are the columns as read, not what a parser made of them: parsers and transformations may be random.
    """

    def __init__(self, max_bytes: int = KEEP_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._collected: list[Int64Array] = []
        self._names: list[str] = []
        self._rows: pa.RecordBatch | None = None
        self._places: Int64Array | None = None
        self._row_at: Int64Array | None = None
        self.full = False
        """Whether there were too many to keep."""

    def add(self, samples: SampleBatch, places: Int64Array | None) -> bool:
        """Keeps one more batch; False, with everything let go, if that is too much.

        Args:
            places: positions of the samples in the training set, int64 [n]; None throughout if nobody will ask.
        """
        self._names = list(samples.columns)
        arrays = [pa.array(samples.keys), samples.labels, pa.array(samples.timestamps), *samples.columns.values()]
        batch = pa.record_batch(arrays, names=[str(i) for i in range(len(arrays))])
        self._bytes += batch.nbytes
        if self._bytes > self._max_bytes:
            self._batches.clear()
            self._collected.clear()
            self.full = True
            return False
        self._batches.append(batch)
        if places is not None:
            self._collected.append(places)
        return True

    def finish(self, num_samples: int) -> None:
        """Ends collecting.

        Args:
            num_samples: of the training set; some may not have been collected, because they were deleted.
        """
        if not self._batches:
            return
        rows = pa.concat_batches(self._batches)
        self._batches.clear()
        if self._collected:
            places = np.concatenate(self._collected)
            self._collected.clear()
            if bool((np.diff(places) < 0).any()):
                by_place = np.argsort(places)
                rows, places = rows.take(pa.array(by_place)), places[by_place]
            self._places = places
            if len(places) < num_samples:
                self._row_at = np.full(num_samples, -1, dtype=np.int64)
                self._row_at[places] = np.arange(len(places))
        self._rows = rows

    @property
    def places(self) -> Int64Array | None:
        """Positions of what is kept, ascending, int64 [m]; None if they were not collected."""
        return self._places

    def batches(self, order: Int64Array | None, size: int) -> Iterator[tuple[Int64Array | None, SampleBatch]]:
        """All samples in batches, each with their positions in the training set.

        Args:
            order: positions in the training set, in the order wanted, also only some; None: all as they are.
            size: samples in a batch; the last may have fewer.
        """
        if self._rows is None:  # there were none
            return
        wanted = order
        if order is not None and self._row_at is not None:
            wanted = self._row_at[order]
            present = wanted >= 0
            order, wanted = order[present], wanted[present]
        count = self._rows.num_rows if order is None else len(order)
        for part in slices(count, size):
            if order is None or wanted is None:
                rows = self._rows.slice(part.start, part.stop - part.start)
                places = None if self._places is None else self._places[part]
            else:
                rows, places = self._rows.take(pa.array(wanted[part])), order[part]
            keys, labels, timestamps, *payload = rows.columns
            columns = dict(zip(self._names, payload, strict=True))
            yield places, SampleBatch(keys.to_numpy(), labels, timestamps.to_numpy(), columns)
