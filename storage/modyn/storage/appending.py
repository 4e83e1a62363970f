"""Receiving one batch of samples over ``Append``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pyarrow as pa

from modyn.core.arrow import decode_batch
from modyn.core.errors import CancelledError, CorruptDataError, InvalidInputError
from modyn.core.plugins.formats import FileSamples
from modyn.storage.datasets import Datasets
from modyn.storage.index import Commit
from modyn.storage.reader import BATCH_ID_METADATA, DATASET_METADATA
from modyn.storage.schema import normal_labels, unix_seconds
from modyn.storage.staging import Staging

MAX_BATCH_ID_CHARS = 200


def receive(datasets: Datasets, messages: Iterator[bytes], is_active: Callable[[], bool]) -> tuple[Commit, bool]:
    """Commits all messages as one batch, or none of them.

    Returns:
        The commit, and whether the batch id had been committed before.

    Raises:
        InvalidInputError: a message or its schema is wrong; the message says what was expected.
        NotFoundError: there is no such dataset.
        CancelledError: the caller went away before the end.
    """
    first = next(messages, None)
    if first is None:
        raise InvalidInputError("Append got no record batch; send at least one, of no rows if there are no samples")
    batch = _decoded(first)
    metadata = batch.schema.metadata or {}
    dataset = datasets.get(_text(metadata, DATASET_METADATA))
    batch_id = _text(metadata, BATCH_ID_METADATA)
    if not 0 < len(batch_id) <= MAX_BATCH_ID_CHARS or not batch_id.isprintable():
        raise InvalidInputError(
            f"batch id {batch_id!r}: expected 1 to {MAX_BATCH_ID_CHARS} printable characters, "
            "the same again when the call is repeated"
        )
    known = dataset.find_batch(batch_id)
    if known is not None:
        return known, True
    staging = Staging(dataset.folder, dataset.snapshot.schema)
    try:
        for part in itertools.chain([batch], map(_decoded, messages)):
            _stage(staging, part, f"batch {batch_id!r} for dataset {dataset.name!r}")
        if not is_active():  # the stream of a caller that went away may look as if it had ended
            raise CancelledError(f"the caller of Append went away; nothing of batch {batch_id!r} was written")
        return dataset.append(batch_id, staging)
    finally:
        staging.close()


def _stage(staging: Staging, batch: pa.RecordBatch, what: str) -> None:
    try:
        staging.add(_samples(batch), default_timestamp=None)
    except CorruptDataError as error:
        raise InvalidInputError(f"{what}: {error.message}") from error


def _samples(batch: pa.RecordBatch) -> FileSamples:
    names = batch.schema.names
    for role in ("timestamp", "label"):
        if names.count(role) > 1:
            raise CorruptDataError(f"column {role!r} occurs more than once")
    payload = batch.select([index for index, name in enumerate(names) if name not in {"timestamp", "label"}])
    labels = normal_labels(batch.column("label")) if "label" in names else None
    times = unix_seconds(batch.column("timestamp")) if "timestamp" in names else None
    return FileSamples(payload, labels, times)


def _decoded(message: bytes) -> pa.RecordBatch:
    try:
        return decode_batch(message)
    except CorruptDataError as error:
        raise InvalidInputError(f"{error.message}; nothing of this batch was written") from error


def _text(metadata: dict[bytes, bytes], key: bytes) -> str:
    value = metadata.get(key)
    if value is None:
        raise InvalidInputError(
            f"the first record batch of Append has no schema metadata {key.decode()!r}; "
            f"expected {DATASET_METADATA.decode()!r} and {BATCH_ID_METADATA.decode()!r}"
        )
    return value.decode("utf-8", "replace")
