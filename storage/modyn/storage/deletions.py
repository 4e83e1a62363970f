"""Deletion files: ranges of keys whose samples are deleted, one Arrow file per call of ``DeleteSamples``."""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow as pa

from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import fsync_directory, write_batch
from modyn.storage.catalog import DeletionInfo
from modyn.storage.index import KeyRuns


def deletion_path(parent: Path, name: str) -> Path:
    return parent / f"{name}.arrow"


def write_deletion(parent: Path, keys: KeyRuns, *, num_stored: int) -> DeletionInfo:
    """Writes a deletion file, durably.

    Raises:
        UnavailableError: the disk is full or not writable; nothing is left behind.
    """
    name = uuid.uuid4().hex
    path = deletion_path(parent, name)
    try:
        size, checksum = write_batch(
            path, pa.record_batch([pa.array(keys.starts), pa.array(keys.ends)], names=["start", "end"])
        )
        fsync_directory(parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UnavailableError(
            f"cannot write {path}: {error.strerror or error}; nothing was deleted. Free or add disk space and try again"
        ) from error
    return DeletionInfo(name, len(keys), num_stored, size, checksum)


def read_deletion(parent: Path, info: DeletionInfo) -> KeyRuns:
    """
    Raises:
        CorruptDataError: the file is damaged. Nothing can be read then: it might be deleted.
    """
    path = deletion_path(parent, info.name)
    try:
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
            batch = reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(f"deletion file {path} cannot be read: {error}; restore it from a copy") from error
    return KeyRuns(batch.column(0).to_numpy(), batch.column(1).to_numpy())
