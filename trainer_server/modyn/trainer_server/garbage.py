"""What trainings leave behind: checkpoints of those that never ended, logs of jobs; and what their lineage names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modyn.core.state import StateDirectory
from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage, Reference
from modyn.trainer_server.checkpoint_folders import FOLDER
from modyn.trainer_server.store import LineageRow, TrainingStore

LOGS = ("train-*.log", "check-*.log", "export-*.log")
"""Of trainings; and of checks and exports that failed."""

MODEL, TRAINING_SET, SAMPLE_COLUMNS = "model", "training set", "sample columns"
"""Kinds of references."""


def collect(state: StateDirectory, request: CollectGarbageRequest) -> Iterator[Garbage]:
    """Removes checkpoints and logs that were not written to for so long; names each, and with ``dry_run`` only that."""
    before = time.time() - request.older_than_seconds
    for path in _entries(state.path / FOLDER, "*"):
        found = _size_and_time(path)
        if found is None or found[1] > before or path.name in request.keep:
            continue
        if not request.dry_run:
            shutil.rmtree(path, ignore_errors=True)
        yield _garbage("checkpoint", path.name, found, "its training has not gone on since")
    for log in (log for pattern in LOGS for log in _entries(state.path / "jobs", f"*/{pattern}")):
        found = _size_and_time(log)
        if found is None or found[1] > before:
            continue
        if not request.dry_run:
            log.unlink(missing_ok=True)
            with suppress(OSError):  # there are others
                log.parent.rmdir()
        yield _garbage("job log", f"{log.parent.name}/{log.name}", found, "its job has ended")


def references(store: TrainingStore) -> Iterator[Reference]:
    """Everything that lineage names: models, what they were made of, what they were trained on, what they left.

    What a training left beside its model, for a training that goes on from there, is of no use without it.
    """
    for row in store.each_lineage():
        on_their_own: dict[str, list[str | None]] = {
            MODEL: [row.model, row.initial_model],
            TRAINING_SET: [row.training_set],
            SAMPLE_COLUMNS: [row.trained, _number(row, "downsampling", "scores")],
        }
        for kind, names in on_their_own.items():
            yield from (Reference(kind=kind, name=name, pipeline_id=row.pipeline_id) for name in names if name)
        for name in [*(row.auxiliary_used or []), *(row.auxiliary_left or []), _number(row, "optimizer_state")]:
            if name:
                yield Reference(kind=MODEL, name=name, pipeline_id=row.pipeline_id, with_model=row.model)


def _number(row: LineageRow, *path: str) -> str | None:
    """An entry of what a training said of itself."""
    found = row.numbers
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _entries(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def _size_and_time(path: Path) -> tuple[int, float] | None:
    """Bytes, and when it was written to last, with all that is in it; None: it is gone."""
    try:
        statuses = [entry.stat() for entry in ([path, *path.rglob("*")] if path.is_dir() else [path])]
    except FileNotFoundError:
        return None
    files = [entry.st_size for entry in statuses[1 if path.is_dir() else 0 :]]
    return sum(files), max(entry.st_mtime for entry in statuses)


def _garbage(kind: str, name: str, found: tuple[int, float], reason: str) -> Garbage:
    size, modified = found
    return Garbage(kind=kind, name=name, num_bytes=size, age_seconds=max(0.0, time.time() - modified), reason=reason)
