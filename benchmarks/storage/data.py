"""Made-up samples: files of fixed-size records, and the same rows as columns."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array

LABEL_BYTES = 4
CLASSES = 10
SETTLED_SECONDS = 3600
"""Files get a modification time so long ago, so that they count as complete at once."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Records:
    """n records of ``width`` bytes: a little-endian label, then random payload.

    Attributes:
        values: uint8 [n, width].
    """

    values: Bytes

    @staticmethod
    def random(count: int, width: int, seed: int = 7) -> Records:
        rng = np.random.default_rng(seed)
        values = np.frombuffer(rng.bytes(count * width), dtype=np.uint8).reshape(count, width).copy()
        values[:, :LABEL_BYTES] = rng.integers(0, CLASSES, count).astype("<u4")[:, None].view(np.uint8)
        return Records(values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labels(self) -> Int64Array:
        """int64 [n]."""
        return labels_of(self.values)

    @property
    def payload(self) -> Bytes:
        """uint8 [n, width - 4]; a view."""
        return self.values[:, LABEL_BYTES:]

    def write(self, folder: Path, files: int) -> dict[str, Any]:
        """Writes files of equal size and answers the ``data.source`` section; everything is on disk."""
        folder.mkdir(parents=True)
        settled = time.time() - SETTLED_SECONDS
        for number, part in enumerate(np.array_split(self.values, files)):
            path = folder / f"part-{number:05d}.bin"
            path.write_bytes(part.tobytes())
            os.utime(path, (settled, settled))
        os.sync()
        return {
            "format": "binary",
            "path": str(folder),
            "record_size": self.values.shape[1],
            "label_size": LABEL_BYTES,
        }

    def batch(self, timestamps: Int64Array) -> pa.RecordBatch:
        """The same rows as columns to append: timestamp, label, and the payload as fixed-size binary."""
        payload = np.ascontiguousarray(self.payload)
        column = pa.Array.from_buffers(
            pa.binary(payload.shape[1]), len(payload), [None, pa.py_buffer(payload.reshape(-1))]
        )
        return pa.record_batch([pa.array(timestamps), pa.array(self.labels), column], ["timestamp", "label", "payload"])


def labels_of(records: Bytes) -> Int64Array:
    """Labels at the start of records uint8 [n, width], as int64 [n]."""
    return np.ascontiguousarray(records[:, :LABEL_BYTES]).view("<u4").reshape(-1).astype(np.int64)


def matrix(column: pa.Array) -> Bytes:
    """A column of fixed-size binary as uint8 [n, width], without a copy."""
    width = column.type.byte_width
    values = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width)
    return values.reshape(len(column), width)
