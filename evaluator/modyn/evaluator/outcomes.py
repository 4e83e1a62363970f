"""Outcome files: what models said of samples, as immutable Arrow columns.

One file holds what one job predicted in some seconds. It is an Arrow IPC file whose batches have the columns ``key``
int64, ``prediction`` int64 and, where a metric needed them, ``scores`` (fixed-size list of float32). A batch's own
metadata names the model it belongs to. Schema metadata carries the format version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError
from modyn.core.versions import OUTCOME_FORMAT_VERSION

_MODEL = b"modyn.model"
_VERSION = b"modyn.outcome_format"

Scores = npt.NDArray[np.float32]


class OutcomeWriter:
    """Writes one outcome file, batch by batch; a context manager.

    Args:
        path: of the file.
        num_outputs: scores per sample, or None to keep no scores.
    """

    def __init__(self, path: Path, num_outputs: int | None) -> None:
        fields = [pa.field("key", pa.int64(), nullable=False), pa.field("prediction", pa.int64(), nullable=False)]
        if num_outputs is not None:
            fields.append(pa.field("scores", pa.list_(pa.float32(), num_outputs), nullable=False))
        schema = pa.schema(fields, metadata={_VERSION: str(OUTCOME_FORMAT_VERSION).encode()})
        self._num_outputs = num_outputs
        self._schema = schema
        self._writer = pa.ipc.new_file(str(path), schema)

    def write(self, model: str, keys: Int64Array, predictions: Int64Array, scores: Scores | None) -> None:
        columns = [pa.array(keys), pa.array(predictions)]
        if self._num_outputs is not None:
            assert scores is not None  # kept whenever the file has a column for them
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1)), self._num_outputs))
        batch = pa.record_batch(columns, schema=self._schema)
        self._writer.write_batch(batch, custom_metadata={_MODEL: model.encode()})

    def close(self) -> None:
        self._writer.close()


@dataclass(frozen=True, eq=False)
class ModelOutcomes:
    """What one model said of n samples.

    Attributes:
        keys: int64 [n], no key twice.
        predictions: int64 [n].
        scores: float32 [n, outputs], or None.
    """

    keys: Int64Array
    predictions: Int64Array
    scores: Scores | None

    @staticmethod
    def join(parts: Sequence[ModelOutcomes]) -> ModelOutcomes:
        """What one model said in several parts, at least one; nothing is copied if there is only one."""
        if len(parts) == 1:
            return parts[0]
        scores = [part.scores for part in parts if part.scores is not None]
        return ModelOutcomes(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.predictions for part in parts]),
            np.concatenate(scores) if scores else None,
        )


class OutcomeFile:
    """A memory-mapped outcome file. It is mapped while what it says is in use, and occupies no file descriptor: an
    evaluation may need thousands.

    Raises:
        CorruptDataError: it is no outcome file, or of a newer format.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batches: dict[str, list[pa.RecordBatch]] = {}
        with pa.memory_map(str(path)) as source:
            try:
                reader = pa.ipc.open_file(source)
            except (pa.ArrowInvalid, OSError) as error:
                raise CorruptDataError(f"outcome file {path} cannot be read: {error}") from error
            version = (reader.schema.metadata or {}).get(_VERSION)
            if version != str(OUTCOME_FORMAT_VERSION).encode():
                raise CorruptDataError(f"outcome file {path} has format {version!r}; expected {OUTCOME_FORMAT_VERSION}")
            for index in range(reader.num_record_batches):
                batch, metadata = reader.get_batch_with_custom_metadata(index)
                self._batches.setdefault(metadata[_MODEL].decode(), []).append(batch)

    def of(self, model: str) -> ModelOutcomes:
        """The outcomes of one model; none of it is copied if they are one batch.

        Raises:
            CorruptDataError: it has none of that model.
        """
        return ModelOutcomes.join(self.parts_of(model))

    def parts_of(self, model: str) -> list[ModelOutcomes]:
        """The same, batch by batch; none of it is copied, and nothing of it can be written to.

        Raises:
            CorruptDataError: it has none of that model.
        """
        if model not in self._batches:
            raise CorruptDataError(f"outcome file {self._path} has no predictions of model {model}")
        return [_arrays(batch) for batch in self._batches[model]]


def _arrays(batch: pa.RecordBatch) -> ModelOutcomes:
    scores: Scores | None = None
    if "scores" in batch.schema.names:
        column = batch.column("scores")
        scores = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return ModelOutcomes(batch.column("key").to_numpy(), batch.column("prediction").to_numpy(), scores)
