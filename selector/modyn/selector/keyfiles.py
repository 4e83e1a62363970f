"""Immutable files of keys (and weights), named by the digest of their content.

A file is Arrow IPC with one record batch and the format version, dataset and kind in its schema metadata:

* kind ``ranges``: columns ``start``, ``end`` (int64); all weights are 1;
* kind ``keys``: column ``key`` (int64), and ``weight`` (float32) unless all weights are 1.

The digest covers the content, not Arrow's framing, so it is the same whatever wrote the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.files import atomic_path
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.versions import TRAINING_SET_FORMAT_VERSION
from modyn.selector.contentfiles import ContentFiles, check_version, digest_of_metadata, little_endian

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KeyFile:
    """The content of one file.

    Attributes:
        dataset: whose keys they are.
        keys: in a meaningful order.
        weights: float32 [n], or None where all are 1.
    """

    dataset: str
    keys: KeySet
    weights: Weights | None = None

    def digest(self) -> str:
        """Digest of the content, hex."""
        batch = _to_batch(self)
        digest = digest_of_metadata(batch.schema.metadata)
        for name in batch.schema.names:
            values = batch.column(name).to_numpy()
            digest.update(f"{name}[{len(values)}]".encode()).update(little_endian(values))
        return digest.hexdigest()


class KeyFiles(ContentFiles[KeyFile]):
    """A folder of key files. Safe to use from many threads."""

    what = "training set"

    def put(self, content: KeyFile) -> str:
        """Stores a file, if it is not there already; returns its digest. Durable on return."""
        content = KeyFile(content.dataset, canonical(content.keys), _unless_all_one(content.weights))
        digest = content.digest()
        if not self.touch(digest):
            batch = _to_batch(content)
            with (
                atomic_path(self.path(digest)) as temporary,
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, batch.schema) as writer,
            ):
                writer.write_batch(batch)
        return digest

    def _load(self, reader: pa.RecordBatchFileReader) -> KeyFile:
        return _from_batch(reader.get_batch(0))

    def _digest(self, content: KeyFile) -> str:
        return content.digest()


def canonical(keys: KeySet) -> KeySet:
    """The same keys in the one representation that :meth:`KeySet.from_array` would choose."""
    if keys.array is not None:
        return KeySet.from_array(keys.array)
    ranges: list[KeyRange] = []
    for r in keys.ranges or ():
        if ranges and ranges[-1].end == r.start:
            ranges[-1] = KeyRange(ranges[-1].start, r.end)
        else:
            ranges.append(r)
    merged = KeySet(ranges=tuple(ranges))
    return merged if len(ranges) * 8 <= len(merged) else KeySet.from_array(merged.to_array())


def _unless_all_one(weights: Weights | None) -> Weights | None:
    if weights is None or bool((weights == 1).all()):
        return None
    return np.ascontiguousarray(weights, dtype=np.float32)


def _to_batch(content: KeyFile) -> pa.RecordBatch:
    ranges = content.keys.ranges if content.weights is None else None
    if ranges is not None:
        columns: dict[str, npt.NDArray[np.generic]] = {
            "start": np.array([r.start for r in ranges], dtype=np.int64),
            "end": np.array([r.end for r in ranges], dtype=np.int64),
        }
    else:
        columns = {"key": content.keys.to_array()}
        if content.weights is not None:
            columns["weight"] = content.weights
    metadata = {
        "modyn.format_version": str(TRAINING_SET_FORMAT_VERSION),
        "modyn.dataset": content.dataset,
        "modyn.kind": "keys" if ranges is None else "ranges",
    }
    arrays = [pa.array(column) for column in columns.values()]
    fields = [pa.field(name, array.type, nullable=False) for name, array in zip(columns, arrays, strict=True)]
    return pa.record_batch(arrays, schema=pa.schema(fields, metadata=metadata))


def _from_batch(batch: pa.RecordBatch) -> KeyFile:
    metadata = batch.schema.metadata
    check_version(metadata, TRAINING_SET_FORMAT_VERSION)
    dataset = metadata[b"modyn.dataset"].decode()
    columns = {name: batch.column(name).to_numpy() for name in batch.schema.names}
    if metadata[b"modyn.kind"] == b"ranges":
        pairs = zip(columns["start"].tolist(), columns["end"].tolist(), strict=True)
        return KeyFile(dataset, KeySet(ranges=tuple(KeyRange(start, end) for start, end in pairs)))
    return KeyFile(dataset, KeySet(array=columns["key"]), columns.get("weight"))
