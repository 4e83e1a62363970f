"""Receiving batches that clients send: samples over ``Append``, later labels over ``SetLabels``."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from modyn.core.arrow import decode_batch
from modyn.core.errors import CancelledError, CorruptDataError, InvalidInputError, UnavailableError
from modyn.core.plugins.formats import FileSamples
from modyn.storage.catalog import LabelBatchRow
from modyn.storage.columns import Column
from modyn.storage.datasets import Datasets
from modyn.storage.index import AppendedBatch
from modyn.storage.label_batches import check_label_batch
from modyn.storage.label_values import corrected
from modyn.storage.reader import BATCH_ID_METADATA, DATASET_METADATA
from modyn.storage.schema import normal_labels, unix_seconds
from modyn.storage.staging import Staging
from modyn.storage.writing import Writer

MAX_BATCH_ID_CHARS = 200

MAX_APPENDS = 32
"""Batches that are received at once. Others wait, and flow control makes their clients wait; each holds up to
:data:`modyn.storage.staging.MEMORY_BYTES` in memory, what is beyond lies on disk."""

WAIT_SECONDS = 60.0
"""How long a batch waits for its turn."""


class Receiver:
    """Receives batches; bounds how many are on their way at once."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets
        self._places = threading.BoundedSemaphore(MAX_APPENDS)

    def append(self, messages: Iterator[bytes], is_active: Callable[[], bool]) -> tuple[AppendedBatch, bool]:
        """Commits all messages as one batch of samples, or none of them.

        Returns:
            What was added, and whether the batch id had been committed before.

        Raises:
            InvalidInputError: a message or its schema is wrong; the message says what was expected.
            NotFoundError: there is no such dataset.
            ConflictError: another process writes to the dataset.
            UnavailableError: too many batches are being received, or nothing can be written.
            CancelledError: the caller went away before the end.
        """
        batch, writer, batch_id = self._first(messages, "Append")
        known = writer.find_batch(batch_id)
        if known is not None:
            _check_same(batch_id, known.end_key - known.first_key, batch, messages)
            return known, True
        with self._turn(batch_id):
            writer.begin()
            dataset = writer.dataset
            staging = Staging(dataset.folder, dataset.snapshot.schema)
            try:
                for part in itertools.chain([batch], map(_decoded, messages)):
                    _stage(staging, part, f"batch {batch_id!r} for dataset {dataset.name!r}", dataset.role)
                _check_active(is_active, "Append", batch_id)
                return writer.append(batch_id, staging)
            finally:
                staging.close()

    def set_labels(self, messages: Iterator[bytes], is_active: Callable[[], bool]) -> tuple[LabelBatchRow, bool]:
        """Commits all messages as one batch of labels, or none of them; returns and raises like :meth:`append`."""
        batch, writer, batch_id = self._first(messages, "SetLabels")
        known = writer.find_label_batch(batch_id)
        if known is not None:
            _check_same(batch_id, known.num_labels, batch, messages, may_be_more=True)
            return known, True
        with self._turn(batch_id):
            parts = [_label_columns(part) for part in itertools.chain([batch], map(_decoded, messages))]
            _check_active(is_active, "SetLabels", batch_id)
            return _set_labels(writer, batch_id, _joined(parts))

    def _first(self, messages: Iterator[bytes], what: str) -> tuple[pa.RecordBatch, Writer, str]:
        first = next(messages, None)
        if first is None:
            raise InvalidInputError(f"{what} got no record batch; send at least one, of no rows if there is nothing")
        batch = _decoded(first)
        metadata = batch.schema.metadata or {}
        writer = self._datasets.writer(_text(metadata, DATASET_METADATA, what))
        batch_id = _text(metadata, BATCH_ID_METADATA, what)
        if not 0 < len(batch_id) <= MAX_BATCH_ID_CHARS or not batch_id.isprintable():
            raise InvalidInputError(
                f"batch id {batch_id!r}: expected 1 to {MAX_BATCH_ID_CHARS} printable characters, "
                "the same again when the call is repeated"
            )
        return batch, writer, batch_id

    @contextmanager
    def _turn(self, batch_id: str) -> Iterator[None]:
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise UnavailableError(
                f"{MAX_APPENDS} other batches have been arriving for {WAIT_SECONDS:.0f} s; nothing of batch "
                f"{batch_id!r} was written, send it again"
            )
        try:
            yield
        finally:
            self._places.release()


def _set_labels(writer: Writer, batch_id: str, batch: pa.RecordBatch) -> tuple[LabelBatchRow, bool]:
    with writer.lock:
        writer.begin()
        snapshot = writer.dataset.snapshot
        times = batch.column("label_time") if "label_time" in batch.schema.names else None
        checked = check_label_batch(
            batch.column("key"),
            batch.column("label"),
            0 if times is None else times,
            end_key=snapshot.end_key,
            label_type=snapshot.schema.label,
            is_deleted=snapshot.deleted.contains,
        )
        before = writer.column(checked.keys, Column.LABEL)
        old_labels = before if checked.labels.type == before.type else pa.nulls(len(before), checked.labels.type)
        num_corrected = int(corrected(old_labels, checked.labels).sum())
        known_at = None if times is None else checked.label_times  # by default their arrival
        return writer.set_labels(batch_id, checked.keys, checked.labels, known_at, num_corrected)


def _label_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = batch.schema.names
    unknown = sorted(set(names) - {"key", "label", "label_time"})
    missing = [name for name in ("key", "label") if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        raise InvalidInputError(
            f"SetLabels got the columns {', '.join(names)}; expected key, label and perhaps label_time, each once"
        )
    return pa.record_batch(batch.columns, names=names)


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    try:
        return pa.concat_batches(parts)
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"the record batches of SetLabels have different columns: {error}") from error


def _check_same(
    batch_id: str, committed: int, first: pa.RecordBatch, rest: Iterator[bytes], *, may_be_more: bool = False
) -> None:
    """
    Args:
        may_be_more: labels of deleted samples were left out.

    Raises:
        InvalidInputError: a repeated batch is not the one that was committed under its id, by its number of rows.
    """
    rows = first.num_rows + sum(_decoded(message).num_rows for message in rest)
    if rows < committed or (rows > committed and not may_be_more):
        raise InvalidInputError(
            f"batch id {batch_id!r} stands for another batch, of {committed} rows, that was committed before; this one "
            f"has {rows}, and nothing of it was written. Give every batch an id of its own, the same again only when "
            "it is repeated"
        )


def _check_active(is_active: Callable[[], bool], what: str, batch_id: str) -> None:
    if not is_active():  # the stream of a caller that went away may look as if it had ended
        raise CancelledError(f"the caller of {what} went away; nothing of batch {batch_id!r} was written")


def _stage(staging: Staging, batch: pa.RecordBatch, what: str, role: int) -> None:
    try:
        staging.add(_samples(batch), None, role)
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
        batch = decode_batch(message)
        batch.validate(full=True)  # offsets that point elsewhere would be followed later
    except (CorruptDataError, pa.ArrowInvalid) as error:
        raise InvalidInputError(f"a message of this batch is damaged: {error}; nothing of it was written") from error
    return batch


def _text(metadata: dict[bytes, bytes], key: bytes, what: str) -> str:
    value = metadata.get(key)
    if value is None:
        raise InvalidInputError(
            f"the first record batch of {what} has no schema metadata {key.decode()!r}; "
            f"expected {DATASET_METADATA.decode()!r} and {BATCH_ID_METADATA.decode()!r}"
        )
    return value.decode("utf-8", "replace")
