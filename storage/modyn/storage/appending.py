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
from modyn.storage.datasets import Datasets
from modyn.storage.index import AppendedBatch
from modyn.storage.reader import BATCH_ID_METADATA, DATASET_METADATA, NUM_ROWS_METADATA
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
        batches, writer, batch_id = self._begin(messages, "Append", is_active)
        known = writer.find_batch(batch_id)
        if known is not None:
            _check_same(batch_id, known.end_key - known.first_key, batches)
            return known, True
        with self._turn(batch_id):
            writer.begin()
            dataset = writer.dataset
            staging = Staging(dataset.folder, dataset.snapshot.schema)
            try:
                for batch in batches:
                    _stage(staging, batch, f"batch {batch_id!r} for dataset {dataset.name!r}", dataset.role)
                return writer.append(batch_id, staging)
            finally:
                staging.close()

    def set_labels(self, messages: Iterator[bytes], is_active: Callable[[], bool]) -> tuple[LabelBatchRow, bool]:
        """Commits all messages as one batch of labels, or none of them; returns and raises like :meth:`append`."""
        batches, writer, batch_id = self._begin(messages, "SetLabels", is_active)
        known = writer.find_label_batch(batch_id)
        if known is not None:
            _check_same(batch_id, known.num_labels, batches, may_be_more=True)
            return known, True
        with self._turn(batch_id):
            labels = _joined([_label_columns(batch) for batch in batches])
            times = labels.column("label_time") if "label_time" in labels.schema.names else None
            return writer.set_labels(batch_id, labels.column("key"), labels.column("label"), times)

    def _begin(
        self, messages: Iterator[bytes], what: str, is_active: Callable[[], bool]
    ) -> tuple[Iterator[pa.RecordBatch], Writer, str]:
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
        return _complete(batch, messages, f"{what} of batch {batch_id!r}", is_active), writer, batch_id

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


def _complete(
    first: pa.RecordBatch, rest: Iterator[bytes], what: str, is_active: Callable[[], bool]
) -> Iterator[pa.RecordBatch]:
    """All record batches of a call.

    The stream of a caller that went away may look as if it had ended, so the last message says how many rows there are.

    Raises:
        CancelledError: the caller went away before the end.
        InvalidInputError: a message is damaged, or the stream ended without that number or with another one.
    """
    num_rows, last = 0, first
    for batch in itertools.chain([first], map(_decoded, rest)):
        num_rows, last = num_rows + batch.num_rows, batch
        yield batch
    if not is_active():
        raise CancelledError(f"the caller went away; nothing of {what} was written")
    said = (last.schema.metadata or {}).get(NUM_ROWS_METADATA)
    if said != b"%d" % num_rows:
        found = "has no such metadata" if said is None else f"says {said.decode('utf-8', 'replace')!r}"
        raise InvalidInputError(
            f"{what} ended after {num_rows} rows, and its last record batch {found}; nothing of it was written. "
            f"Expected the schema metadata {NUM_ROWS_METADATA.decode()!r} of the last one to be the rows of all"
        )


def _check_same(batch_id: str, committed: int, batches: Iterator[pa.RecordBatch], *, may_be_more: bool = False) -> None:
    """
    Args:
        may_be_more: labels of deleted samples were left out.

    Raises:
        InvalidInputError: a repeated batch is not the one that was committed under its id, by its number of rows.
    """
    rows = sum(batch.num_rows for batch in batches)
    if rows < committed or (rows > committed and not may_be_more):
        raise InvalidInputError(
            f"batch id {batch_id!r} stands for another batch, of {committed} rows, that was committed before; this one "
            f"has {rows}, and nothing of it was written. Give every batch an id of its own, the same again only when "
            "it is repeated"
        )


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
