"""The state of a training on disk, so that one that is killed goes on where it was.

A checkpoint is one file for each process of the training, written whole or not at all: what torch saves (read back
without running pickled code), then a JSON footer, the footer's length and a magic number. The newest two are kept, so
that one that turns out to be damaged costs one interval more.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from modyn.core.config.training import CheckpointingSection
from modyn.core.digests import checksum_bytes
from modyn.core.errors import CorruptDataError, InvalidInputError, ModynError
from modyn.core.files import atomic_path
from modyn.core.versions import CHECKPOINT_FORMAT_VERSION
from modyn.trainer_server.checkpoint_folders import checkpoint_files, file_name
from modyn.trainer_server.checkpoint_states import State, packed, unpacked
from modyn.trainer_server.parallel import ALONE, Parallel

KEPT = 2
"""Checkpoints on disk: the newest, and the one before it."""

AGREE_EVERY = 16
"""Batches after which several processes ask the first one whether it is time; asking at each would cost more."""

_MAGIC = b"modyn-checkpoint"
_LENGTH = struct.Struct("<Q")


class Checkpoints:
    """Keeps none; subclasses write them."""

    def load(self) -> State | None:
        """The newest state that is whole, or None."""
        return None

    def due(self, batches: int) -> bool:
        """Whether to save after so many batches of the training; True again until it is saved."""
        return False

    def save(self, state: State) -> None:
        """Writes a state. It is on disk when this returns, or the one before it still is."""


NO_CHECKPOINTS = Checkpoints()


@dataclass(frozen=True)
class _Footer:
    version: int
    training: str
    batches: int
    checksum: str


class CheckpointFiles(Checkpoints):
    """Checkpoints in a folder of one training, which is made when the first one is written.

    Args:
        folder: its name stands for the training; checkpoints of another one are refused.
        section: how often.
        notice: takes a line for the user.
        parallel: the processes of the training. Each writes what only it knows; all read what the first one wrote.
    """

    def __init__(
        self,
        folder: Path,
        section: CheckpointingSection,
        notice: Callable[[str], None],
        parallel: Parallel = ALONE,
    ) -> None:
        self._folder = folder
        self._interval = section.interval
        self._seconds = section.every_seconds
        self._notice = notice
        self._parallel = parallel
        self._batches = 0
        """When the last one was saved."""
        self._now = 0
        self._since = time.monotonic()
        self._failed = False
        self._useless = False
        """Whether the state cannot be saved at all."""

    def load(self) -> State | None:
        numbers = {batches for batches, _, _ in checkpoint_files(self._folder)}
        for batches in sorted(numbers, reverse=True):
            try:
                state = self._read(batches)
            except (OSError, ModynError) as error:
                text = error.message if isinstance(error, ModynError) else str(error)
                self._notice(
                    f"the checkpoint after batch {batches} cannot be used ({text}); going on from an earlier state"
                )
                continue
            self._batches = batches
            return state
        return None

    def due(self, batches: int) -> bool:
        self._now = batches
        if self._useless and self._parallel.size == 1:
            return False
        if self._interval is not None and batches - self._batches >= self._interval:
            return True
        if self._seconds is None:
            return False
        if self._parallel.size == 1:
            return time.monotonic() - self._since >= self._seconds
        return batches % AGREE_EVERY == 0 and self._parallel.agreed(time.monotonic() - self._since >= self._seconds)

    def save(self, state: State) -> None:
        if self._useless:  # several processes go on asking each other, as the others may not know
            self._batches, self._since = self._now, time.monotonic()
            return
        parts = state
        if not self._parallel.is_main:
            parts = {**state, "parts": _own(state["parts"])}
        try:
            self._write(packed(parts))
        except InvalidInputError as error:  # the same at each batch; a long training should not end for that
            self._notice(f"{error.message}. The training goes on without checkpoints")
            self._useless = True
        except OSError as error:
            if not self._failed:
                self._notice(
                    f"no checkpoint can be written to {self._folder} ({error.strerror}); the training goes on without, "
                    "and would begin again if it were killed"
                )
            self._failed = True
        # Also after a failure, so that it is not tried again at each batch.
        self._batches, self._since = self._now, time.monotonic()

    def _write(self, state: Any) -> None:
        with atomic_path(self._path(self._now, self._parallel.rank)) as temporary, temporary.open("wb") as file:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            content = buffer.getbuffer()
            footer = _Footer(CHECKPOINT_FORMAT_VERSION, self._folder.name, self._now, checksum_bytes(content))
            file.write(content)
            _write_footer(file, footer)
        mine = [path for _, rank, path in checkpoint_files(self._folder) if rank == self._parallel.rank]
        for path in mine[:-KEPT]:
            path.unlink(missing_ok=True)

    def _read(self, batches: int) -> State:
        main = self._read_file(batches, 0)
        if self._parallel.size == 1:
            return main
        own: State = {}
        for rank in range(1, self._parallel.size):  # all look at all files, and so decide alike
            read = self._read_file(batches, rank)
            own = read if rank == self._parallel.rank else own
        return main if self._parallel.is_main else {**main, "parts": {**main["parts"], **own["parts"]}}

    def _read_file(self, batches: int, rank: int) -> State:
        """
        Raises:
            CorruptDataError: the file is damaged, or not of this training.
            OSError: it is not there.
        """
        path = self._path(batches, rank)
        data = memoryview(path.read_bytes())
        content, footer = _split(data, path)
        if footer.training != self._folder.name or footer.batches != batches:
            raise CorruptDataError(f"{path.name} belongs to another training ({footer.training})")
        if checksum_bytes(content) != footer.checksum:
            raise CorruptDataError(f"{path.name} is damaged: its checksum is not that of its content")
        # torch writes to a host's memory what it read from a GPU's; whoever takes it puts it where it belongs.
        try:
            state: State = unpacked(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise CorruptDataError(f"{path.name} holds something else than a training's state") from error
        return state

    def _path(self, batches: int, rank: int) -> Path:
        return self._folder / file_name(batches, rank)


def _own(parts: State) -> State:
    """What a process does not share with the first one; gradients of an unfinished group it does not."""
    shared = {"model"} if parts["updates"].get("pending") else {"model", "updates"}
    return {name: part for name, part in parts.items() if name not in shared}


def _write_footer(file: IO[bytes], footer: _Footer) -> None:
    text = json.dumps(footer.__dict__).encode()
    file.write(text + _LENGTH.pack(len(text)) + _MAGIC)


def _split(data: memoryview, path: Path) -> tuple[memoryview, _Footer]:
    """What torch saved, and the footer.

    Raises:
        CorruptDataError: it is no checkpoint of this format.
    """
    tail = _LENGTH.size + len(_MAGIC)
    try:
        if bytes(data[-len(_MAGIC) :]) != _MAGIC:
            raise ValueError("it does not end as checkpoints do")
        (length,) = _LENGTH.unpack(data[-tail : -len(_MAGIC)])
        fields = json.loads(bytes(data[-tail - length : -tail]))
        if fields.get("version") != CHECKPOINT_FORMAT_VERSION:
            raise ValueError(f"format {fields.get('version')}, this release reads {CHECKPOINT_FORMAT_VERSION}")
        return data[: -tail - length], _Footer(**fields)
    except (ValueError, TypeError, struct.error) as error:
        raise CorruptDataError(f"{path.name} is no checkpoint: {error}") from error
