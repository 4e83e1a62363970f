"""Reading samples that are a file each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from modyn.storage.picks import Picks
from modyn.storage.values import Files

THREADS = 16
"""Files read at once where they have to come from the disk."""

PROBED_FILES = 8
"""Files read first, to see whether they do."""

SLOW_SECONDS = 200e-6
"""Of opening and reading a file; one in memory takes about 15 µs and 0.1 µs per KB."""

SLOW_SECONDS_PER_BYTE = 1e-9


def read_files(columns: Sequence[Files], picks: Picks) -> pa.Array:
    """Whole files as binary [n], each copied once. Files that are not in memory are read by several threads.

    Raises:
        CorruptDataError: a file is gone or is not the one that was ingested.
    """
    rows = picks.rows.tolist()
    parts = [picks.part] * len(rows) if picks.parts is None else picks.parts.tolist()
    files = [(columns[part].files, row) for part, row in zip(parts, rows, strict=True)]
    offsets = np.zeros(len(files) + 1, dtype=np.int64)
    np.cumsum([column.sizes[row] for column, row in files], out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowInvalid(f"{len(files)} files of {offsets[-1]} bytes do not fit into a binary column")
    data = pa.allocate_buffer(int(offsets[-1]))
    memory = memoryview(data)
    bounds = offsets.tolist()

    def read(index: int) -> None:
        column, row = files[index]
        column.read_into(row, memory[bounds[index] : bounds[index + 1]])

    probed = min(PROBED_FILES, len(files))
    start = time.perf_counter()
    for index in range(probed):
        read(index)
    seconds = time.perf_counter() - start
    rest = range(probed, len(files))
    if seconds > probed * SLOW_SECONDS + bounds[probed] * SLOW_SECONDS_PER_BYTE and len(rest) > 1:
        with ThreadPoolExecutor(min(THREADS, len(rest)), "files") as threads:
            list(threads.map(read, rest))
    else:
        for index in rest:
            read(index)
    return pa.Array.from_buffers(pa.binary(), len(files), [None, pa.py_buffer(offsets.astype(np.int32)), data])
