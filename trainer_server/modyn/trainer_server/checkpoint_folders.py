"""Where the checkpoints of trainings are, and how their files are called; without torch."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from pathlib import Path

from modyn.core.files import remove_leftovers
from modyn.core.state import StateDirectory

FOLDER = "checkpoints"
"""In the state directory."""

_ONCE = "once-"
"""How the names of folders begin that only one call knows."""

_FILE = re.compile(r"(\d{12})-(\d{4})\.checkpoint")


def file_name(batches: int, rank: int) -> str:
    """Of the checkpoint that a process wrote after so many batches."""
    return f"{batches:012d}-{rank:04d}.checkpoint"


def checkpoint_files(folder: Path) -> list[tuple[int, int, Path]]:
    """(batches, rank, path) of all checkpoints in a folder, ascending; none if it does not exist."""
    try:
        found = [(_FILE.fullmatch(path.name), path) for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted((int(match[1]), int(match[2]), path) for match, path in found if match is not None)


def newest(folder: Path) -> int:
    """After how many batches the newest checkpoint was taken; 0: there is none."""
    return max((batches for batches, rank, _ in checkpoint_files(folder) if rank == 0), default=0)


class CheckpointFolders:
    """The checkpoints of a trainer server: a folder for each training, which its job makes when it needs it.

    Args:
        state: no other server writes to it.
    """

    def __init__(self, state: StateDirectory) -> None:
        self._path = state.path / FOLDER
        for path in self._path.glob(f"{_ONCE}*"):  # their calls are gone with the server before this one
            shutil.rmtree(path, ignore_errors=True)

    def of(self, input_digest: str) -> Path:
        """Of all trainings of these inputs: a later one goes on where an earlier one was killed."""
        path = self._path / input_digest
        if path.is_dir():
            remove_leftovers(path)
            os.utime(path)  # in use again: too young to be collected
        return path

    def for_one_call(self) -> Path:
        """One that no other call will find."""
        return self._path / f"{_ONCE}{uuid.uuid4().hex}"

    def remove(self, folder: Path) -> None:
        """Nobody needs these any more."""
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def is_for_one_call(folder: Path) -> bool:
    """Whether only the call that made it can go on from it."""
    return folder.name.startswith(_ONCE)
