"""What was said of samples, handed to a scoring job as memory-mapped Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array, batch_of
from modyn.core.plugins.evaluation import Outcomes
from modyn.evaluator.subjects import Subject
from modyn.proto.evaluator_pb2 import ScoringSubset, ScoringTask


def write_subject(
    subject: Subject, beginning: str, metrics: Sequence[int], *, scores: bool, targets: bool
) -> ScoringTask:
    """Writes temporary files, which nobody needs once the job has answered.

    Args:
        beginning: of their paths.
        metrics: which of the job's metrics are to be scored.
        scores: some of them looks at scores.
        targets: some of them takes labels as numbers.

    Raises:
        OSError: they cannot be written.
    """
    said = subject.outcomes
    columns = {"label": pa.array(said.labels), "prediction": pa.array(said.predictions)}
    if scores and said.scores is not None:
        columns["scores"] = _rows(said.scores)
    if targets and said.targets is not None:
        columns["targets"] = _rows(said.targets)
    task = ScoringTask(
        outcomes=f"{beginning}-outcomes.arrow",
        starts=subject.starts.tolist(),
        stops=subject.stops.tolist(),
        subsets=[ScoringSubset(name=name, size=len(own)) for name, own in subject.positions],
        metrics=metrics,
    )
    _write(task.outcomes, batch_of(**columns))
    if subject.positions:
        task.positions = f"{beginning}-positions.arrow"
        _write(task.positions, batch_of(position=np.concatenate([own for _, own in subject.positions])))
    return task


def read_subject(task: ScoringTask) -> Subject:
    """What was written; its arrays cannot be changed."""
    table = _read(task.outcomes)
    outcomes = Outcomes(
        _flat(table, "label"), _flat(table, "prediction"), _matrix(table, "scores"), _matrix(table, "targets")
    )
    positions: list[tuple[str, Int64Array]] = []
    if task.subsets:
        together, start = _flat(_read(task.positions), "position"), 0
        for subset in task.subsets:
            positions.append((subset.name, together[start : start + subset.size]))
            start += subset.size
    starts, stops = (np.array(ends, dtype=np.int64) for ends in (task.starts, task.stops))
    return Subject(outcomes, starts, stops, tuple(positions))


def _rows(matrix: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    """Rows of numbers [n, k]."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1])


def _write(path: str, batch: pa.RecordBatch) -> None:
    with Path(path).open("wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: str) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(path)).get_batch(0)


def _flat(batch: pa.RecordBatch, name: str) -> Int64Array:
    column: Int64Array = batch.column(name).to_numpy()
    return column


def _matrix(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any] | None:
    if name not in batch.schema.names:
        return None
    rows = batch.column(name)
    matrix: npt.NDArray[Any] = rows.flatten().to_numpy().reshape(len(rows), -1)
    return matrix
