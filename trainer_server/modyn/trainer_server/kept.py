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
        self._names: list[str] = []
        self._rows: pa.RecordBatch | None = None

    def add(self, samples: SampleBatch) -> bool:
        """Keeps one more batch; False, with everything let go, if that is too much."""
        self._names = list(samples.columns)
        arrays = [pa.array(samples.keys), samples.labels, pa.array(samples.timestamps), *samples.columns.values()]
        batch = pa.record_batch(arrays, names=[str(i) for i in range(len(arrays))])
        self._bytes += batch.nbytes
        if self._bytes > self._max_bytes:
            self._batches.clear()
            return False
        self._batches.append(batch)
        return True

    def finish(self, order: Int64Array | None) -> None:
        """Ends collecting.

        Args:
            order: positions in the training set of the samples collected, in their order; None: 0, 1, 2 …
        """
        rows = pa.concat_batches(self._batches)
        self._batches.clear()
        if order is not None:
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            rows = rows.take(pa.array(place))
        self._rows = rows

    def batches(self, order: Int64Array | None, size: int) -> Iterator[SampleBatch]:
        """All samples in batches.

        Args:
            order: positions in the training set, in the order wanted; None: that of the set.
            size: samples in a batch; the last may have fewer.
        """
        assert self._rows is not None  # finished
        for part in slices(self._rows.num_rows, size):
            if order is None:
                rows = self._rows.slice(part.start, part.stop - part.start)
            else:
                rows = self._rows.take(pa.array(order[part]))
            keys, labels, timestamps, *payload = rows.columns
            columns = dict(zip(self._names, payload, strict=True))
            yield SampleBatch(keys.to_numpy(), labels, timestamps.to_numpy(), columns)
