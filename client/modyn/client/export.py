"""``modyn-client models download``: a model as a folder that stands on its own."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from modyn.client.loading import Origin
from modyn.core.arrow import int64_column
from modyn.core.errors import AlreadyExistsError, CorruptDataError, InvalidInputError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, fsync_file
from modyn.core.peers import Peers
from modyn.core.values import to_value
from modyn.proto.common_pb2 import CodeOrigin, Interval
from modyn.proto.trainer_server_pb2 import ExportedPiece, ExportModelRequest, ModelDescription
from modyn.storage.reader import stream_columns

DESCRIPTION = "modyn-model.json"
"""The file by which a download is known, as in ``modyn.models.exported``, which imports torch."""


@dataclass(frozen=True)
class Downloaded:
    """An exported model.

    Attributes:
        path: its folder.
        files: in it, with their sizes in bytes.
        notices: for people.
    """

    path: Path
    files: dict[str, int]
    notices: tuple[str, ...]


def check_target(folder: Path, *, force: bool) -> None:
    """
    Args:
        folder: to write.
        force: replace a model that was downloaded to it before.

    Raises:
        AlreadyExistsError: there is something in the folder, and it is not to be replaced, or is no such model.
        InvalidInputError: it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"--output {folder}: this is no folder; name another")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / DESCRIPTION).is_file():
        raise AlreadyExistsError(f"--output {folder}: the folder is not empty, and no downloaded model; name another")
    if not force:
        raise AlreadyExistsError(
            f"--output {folder}: the folder has a downloaded model; name another, or replace it with --force"
        )


def download(
    peers: Peers, found: ModelDescription, origin: Origin, folder: Path, *, onnx: bool, force: bool, key: int | None
) -> Downloaded:
    """See :meth:`modyn.client.Client.download_model`."""
    check_target(folder, force=force)
    request = ExportModelRequest(
        model=found.model,
        dataset=found.dataset,
        key=_first_key(peers, found.dataset) if key is None else key,
        model_section=to_value(origin.model.model_dump(mode="json")),
        data_section=to_value(origin.data.model_dump(mode="json")),
        code=CodeOrigin(root=origin.code),
        onnx=onnx,
        about=to_value(_about(found, origin)),
    )
    return _write(peers.trainer_server.ExportModel(request), folder)


def _about(found: ModelDescription, origin: Origin) -> dict[str, Any]:
    """Where the model came from, for its description."""
    return {
        "pipeline": origin.pipeline or None,
        "pipeline_id": origin.pipeline_id,
        "trigger": origin.trigger_index,
        "dataset": found.dataset,
        "training_set": found.training_set,
        "initial_model": found.initial_model if found.HasField("initial_model") else None,
        "trained_at": datetime.fromtimestamp(found.trained_at, UTC).isoformat(timespec="seconds"),
    }


def _first_key(peers: Peers, dataset: str) -> int:
    for batch in stream_columns(peers.storage, dataset, Interval()):
        if batch.num_rows:
            return int(int64_column(batch, "key")[0])
    raise NotFoundError(f"dataset {dataset!r} has no samples left, so there is none to be the example of the export")


def _write(pieces: Iterable[ExportedPiece], folder: Path) -> Downloaded:
    """Puts the files into a temporary folder beside the target, and that in its place once it is complete."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        files, notices = _receive(pieces, temporary)
        for name in files:
            fsync_file(temporary / name)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Downloaded(folder, files, tuple(notices))


def _receive(pieces: Iterable[ExportedPiece], folder: Path) -> tuple[dict[str, int], list[str]]:
    files: dict[str, int] = {}
    notices: list[str] = []
    current: str | None = None
    for piece in pieces:
        if piece.notice:
            notices.append(piece.notice)
            continue
        if piece.path:
            current = _safe(piece.path)
            path = folder / current
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            files[current] = 0
        if current is None:
            raise CorruptDataError("the server sent a piece of a file without its name; is it of another release?")
        with (folder / current).open("ab") as file:
            file.write(piece.data)
        files[current] += len(piece.data)
    return files, notices


def _safe(name: str) -> str:
    """A path below the folder, whatever the server says."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise CorruptDataError(f"the server sent a file named {name!r}, which lies outside of the folder; not written")
    return str(path)


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Renames; an earlier folder goes only once the new one is complete."""
    old = folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(temporary, folder)
    except OSError:
        with suppress(FileNotFoundError):
            os.replace(old, folder)
        raise
    fsync_directory(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
