"""Fields at regular distances in a file, read without the bytes between them where those are many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError

CHUNK_BYTES = 1 << 20
"""Read at a time where everything is read: it stays in the processor's cache until the fields are taken out."""

SPARSE_BYTES = 8 << 10
"""From this distance on fields are read one by one: a call costs less than reading what lies between them."""


@dataclass(frozen=True)
class FieldPlace:
    """n fields of ``width`` bytes; the first at ``offset``, each ``stride`` bytes after the one before."""

    num_rows: int
    offset: int
    width: int
    stride: int


def read_field(path: Path, place: FieldPlace) -> npt.NDArray[np.uint8]:
    """The bytes of a field of all records, uint8 [n, width].

    Not through a memory map: if the owner truncated the file meanwhile, reading the map would kill the process.

    Raises:
        CorruptDataError: the file is shorter than that.
    """
    out = np.empty((place.num_rows, place.width), dtype=np.uint8)
    if not out.size:
        return out
    with path.open("rb", buffering=0) as file:
        if place.stride >= SPARSE_BYTES and place.width < place.stride:
            for row, target in enumerate(out):
                if os.preadv(file.fileno(), [target.data], place.offset + row * place.stride) != place.width:
                    raise _shorter()
        else:
            file.seek(place.offset)
            step = max(1, CHUNK_BYTES // place.stride)
            chunk = bytearray(step * place.stride)
            view = memoryview(chunk)
            for first in range(0, place.num_rows, step):
                rows = min(step, place.num_rows - first)
                _fill(file.fileno(), view[: (rows - 1) * place.stride + place.width])
                _skip(file.fileno(), place.stride - place.width)
                _copy_fields(out[first : first + rows], chunk, place.stride)
    return out


def _copy_fields(out: npt.NDArray[np.uint8], chunk: bytearray, stride: int) -> None:
    kind = np.dtype((np.void, out.shape[1]))  # one copy a field, not one a byte
    fields: npt.NDArray[np.void] = np.ndarray((len(out),), dtype=kind, buffer=chunk, strides=(stride,))
    out.view(kind)[:, 0] = fields


def _fill(descriptor: int, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = os.readv(descriptor, [target[done:]])
        if count == 0:
            raise _shorter()
        done += count


def _skip(descriptor: int, count: int) -> None:
    if count:
        os.lseek(descriptor, count, os.SEEK_CUR)


def _shorter() -> CorruptDataError:
    return CorruptDataError("became shorter while it was read")


def joined_times(pieces: Sequence[Int64Array | None]) -> Int64Array | None:
    """Times of the pieces of a file, None if it carries none."""
    found = [times for times in pieces if times is not None]
    return np.concatenate(found) if found else None
