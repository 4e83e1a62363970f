"""What a segment was made of: the digests of segments as ingested, which compaction does not change.

A content digest identifies samples, not the files they happen to lie in, so that compaction makes no training obsolete.
A segment that compaction wrote has a file ``contents.arrow`` with one row per ingested segment whose samples it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from modyn.core.errors import CorruptDataError
from modyn.core.files import write_batch
from modyn.storage.segments import MERGED, REMOVED, SegmentInfo

CONTENTS_FILE = "contents.arrow"

SCHEMA = pa.schema(
    [
        ("first_key", pa.int64()),
        ("end_key", pa.int64()),
        ("digest", pa.string()),
        ("min_timestamp", pa.int64()),
        ("max_timestamp", pa.int64()),
        ("max_arrival", pa.int64()),
        ("role", pa.int8()),  # 0: they differ
    ]
)
"""What is said of each segment as it was ingested."""


def contents_of(parent: Path, info: SegmentInfo) -> pa.RecordBatch:
    """What a segment was made of, in key order, see :data:`SCHEMA`.

    Raises:
        CorruptDataError: its file cannot be read.
    """
    if info.kind not in (MERGED, REMOVED):
        return as_ingested([info])
    path = parent / info.name / CONTENTS_FILE
    try:
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(f"segment file {path} cannot be read: {error}; restore it from a copy") from error


def as_ingested(infos: Sequence[SegmentInfo]) -> pa.RecordBatch:
    """What segments that no compaction has touched say of themselves."""
    columns = [[getattr(info, field.name) for info in infos] for field in SCHEMA if field.name != "role"]
    columns.append([info.role or 0 for info in infos])
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
    )


def write_contents(folder: Path, contents: Sequence[pa.RecordBatch]) -> str:
    """Writes the file of contents that follow each other into a segment's folder; its checksum."""
    _, checksum = write_batch(folder / CONTENTS_FILE, pa.concat_batches(list(contents)))
    return checksum
