"""A batch of samples as the messages of one ``Append`` call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from modyn.core.arrow import encode_batch, rows_per_message, slices

DATASET_KEY = b"modyn.dataset"
BATCH_ID_KEY = b"modyn.batch_id"
"""Schema metadata of the first message."""

Tabular: TypeAlias = "pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch]"


class AppendMessages:
    """Iterates over messages of about 1 MiB; the first one names the dataset and the batch.

    Attributes:
        failure: what the data raised while gRPC consumed them on a thread of its own, where it would be lost.
    """

    def __init__(self, dataset: str, batch_id: str, data: Tabular) -> None:
        self._metadata = {DATASET_KEY: dataset.encode(), BATCH_ID_KEY: batch_id.encode()}
        self._data = data
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for batch in _batches(self._data):
                yield from self._encoded(batch)
        except Exception as error:
            self.failure = error
            raise

    def _encoded(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        batch = batch.replace_schema_metadata(self._metadata)
        if batch.num_rows == 0:
            yield encode_batch(batch)
        for part in slices(batch.num_rows, rows_per_message(batch.nbytes / max(batch.num_rows, 1))):
            yield encode_batch(batch.slice(part.start, part.stop - part.start))


def _batches(data: Tabular) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        yield data
    elif isinstance(data, pa.Table):
        yield from data.to_batches() or [pa.RecordBatch.from_pylist([], schema=data.schema)]
    else:
        yield from data
