"""Models as differences from another one of the same layout, byte for byte lossless.

A delta file belongs to two safetensors files, the *base* and the *model*, that have the same header and so the same
tensors at the same places. Their data are cut into blocks. In a block, values become integers of their width in whose
order floats stand in the order of their size (the usual map of sign and magnitude to an unsigned integer); the
difference modulo 2^width is then small where a weight changed little, whatever its exponent. A zigzag turns the sign
into the lowest bit, so that small differences of either sign have leading zero bytes; the bytes of a block are written
plane by plane, the most significant last, and each plane is compressed with Zstandard, or left as it is where that does
not help, as with the lowest ones. Nothing here is a floating-point operation: NaNs, infinities and zeros of either sign
come back bit by bit.

Layout, integers little-endian::

    8 bytes   magic
    uint32    version of the format
    uint32    length of what follows
    JSON      base, model: digests; num_bytes: of the model; chain_position: models since the last whole one
    planes    of each block, the least significant first: uint8 0 (as it is) or 1 (Zstandard), uint32 length, bytes
    16 bytes  XXH3 checksum of all of the above
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from modyn.core.digests import Digest
from modyn.core.versions import MODEL_DELTA_FORMAT_VERSION

MAGIC = b"MODYNDLT"
BLOCK_BYTES = 4 << 20
LEVEL = 1
"""Of Zstandard. Level 3 saves nothing more, level 19 a fiftieth of the bytes in fifty times the time."""

MAX_DESCRIPTION_BYTES = 4096
CHECKSUM_BYTES = 16

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}
"""Bytes of a value by safetensors' name of its type; of all other types, bytes are taken one by one."""

_START = struct.Struct("<8sII")
_PLANE = struct.Struct("<BI")

Words = npt.NDArray[Any]
"""Unsigned integers of 1, 2, 4 or 8 bytes."""


class DamagedDeltaError(Exception):
    """A delta file cannot be decoded; the message says why."""


@dataclass(frozen=True)
class DeltaDescription:
    """What stands at the beginning of a delta file.

    Attributes:
        base: digest of the whole model that it is a difference from.
        model: digest of the model's bytes.
        num_bytes: of the model.
        chain_position: models since the last whole one, at least 1.
    """

    base: str
    model: str
    num_bytes: int
    chain_position: int


@dataclass(frozen=True)
class _Run:
    """Neighbouring values of the same kind, ``[start, stop)`` in bytes of the data."""

    start: int
    stop: int
    width: int
    floats: bool


def describe(path: Path) -> DeltaDescription:
    """
    Raises:
        FileNotFoundError: there is no such file.
        DamagedDeltaError: it is none of a format that is known here.
    """
    with path.open("rb") as file:
        return _read_description(file)


def is_intact(path: Path) -> bool:
    """Whether a delta file has its checksum."""
    size = path.stat().st_size
    if size < CHECKSUM_BYTES:
        return False
    checksum = xxhash.xxh3_128()
    with path.open("rb") as file:
        left = size - CHECKSUM_BYTES
        while left and (data := file.read(min(left, BLOCK_BYTES))):
            checksum.update(data)
            left -= len(data)
        return file.read() == checksum.digest()


def write_delta(target: Path, *, base: Path, model: Path, description: DeltaDescription) -> bool:
    """Writes a delta file, which is not fsynced, block by block.

    Returns:
        Whether it is of use. It is not if the two files have other headers or sizes, are no safetensors files, or if
        the base has not the digest that it should have; nor if the delta would not be smaller than the model.

    Raises:
        OSError: a file cannot be read, or the target not be written.
    """
    with base.open("rb") as base_file, model.open("rb") as model_file, target.open("wb") as file:
        header = _header(model_file)
        if header is None or _header(base_file) != header or base.stat().st_size != description.num_bytes:
            return False
        runs = _runs(header, description.num_bytes - len(header))
        if runs is None:
            return False
        sink = _Checksummed(file)
        _write_description(sink, description)
        found = Digest().update(header)
        for start, stop, width, floats in _blocks(runs):
            old, new = base_file.read(stop - start), model_file.read(stop - start)
            if len(old) != stop - start or len(new) != stop - start:
                return False
            found.update(old)
            _write_planes(sink, _zigzag(_difference(_words(old, width), _words(new, width), floats)))
            if sink.size + CHECKSUM_BYTES >= description.num_bytes:
                return False
        file.write(sink.checksum.digest())
        return found.hexdigest() == description.base


def read_delta(delta: Path, base: Path) -> Iterator[bytes]:
    """The model's bytes in pieces of at most 4 MiB; whether they are the right ones, its digest says.

    Raises:
        FileNotFoundError: one of the files does not exist.
        DamagedDeltaError: the bytes are no delta of this base.
    """
    with delta.open("rb") as file, base.open("rb") as base_file:
        description = _read_description(file)
        header = _header(base_file)
        runs = None if header is None else _runs(header, description.num_bytes - len(header))
        if header is None or runs is None:
            raise DamagedDeltaError("its base is no safetensors file of this size")
        yield header
        for start, stop, width, floats in _blocks(runs):
            old = base_file.read(stop - start)
            if len(old) != stop - start:
                raise DamagedDeltaError("its base is shorter than the model")
            difference = _unzigzag(_read_planes(file, (stop - start) // width, width))
            yield _sum(_words(old, width), difference, floats).tobytes()


# ------------------------------------------------------------------------------------------------- integers


def _words(data: bytes, width: int) -> Words:
    return np.frombuffer(data, dtype=f"<u{width}")


def _difference(old: Words, new: Words, floats: bool) -> Words:
    return _ordered(new) - _ordered(old) if floats else new - old


def _sum(old: Words, difference: Words, floats: bool) -> Words:
    return _unordered(_ordered(old) + difference) if floats else old + difference


def _ordered(bits: Words) -> Words:
    """Bit patterns of floats to integers in the order of the floats' size."""
    sign, top = _sign(bits)
    ordered: Words = bits ^ (-top | sign)
    return ordered


def _unordered(order: Words) -> Words:
    """The inverse of :func:`_ordered`."""
    sign, top = _sign(order)
    bits: Words = order ^ ((top - order.dtype.type(1)) | sign)
    return bits


def _zigzag(values: Words) -> Words:
    """0, -1, 1, -2 … as 0, 1, 2, 3 …"""
    _, top = _sign(values)
    coded: Words = (values << values.dtype.type(1)) ^ -top
    return coded


def _unzigzag(values: Words) -> Words:
    one = values.dtype.type(1)
    decoded: Words = (values >> one) ^ -(values & one)
    return decoded


def _sign(values: Words) -> tuple[Any, Words]:
    """The sign bit, and for each value whether it has it, as 0 or 1."""
    shift = values.dtype.type(8 * values.dtype.itemsize - 1)
    return values.dtype.type(1) << shift, values >> shift


# --------------------------------------------------------------------------------------------------- planes


@cache
def _codec() -> pa.Codec:
    return pa.Codec("zstd", compression_level=LEVEL)


def _write_planes(sink: _Checksummed, values: Words) -> None:
    planes = values.view(np.uint8).reshape(len(values), values.dtype.itemsize)
    for position in range(values.dtype.itemsize):
        plane = planes[:, position].tobytes()
        packed = _codec().compress(plane, asbytes=True)
        method, data = (1, packed) if len(packed) < len(plane) else (0, plane)
        sink.write(_PLANE.pack(method, len(data)))
        sink.write(data)


def _read_planes(file: BinaryIO, count: int, width: int) -> Words:
    planes = np.empty((count, width), dtype=np.uint8)
    for position in range(width):
        planes[:, position] = np.frombuffer(_read_plane(file, count), dtype=np.uint8)
    values: Words = planes.reshape(-1).view(f"<u{width}")
    return values


def _read_plane(file: BinaryIO, count: int) -> bytes:
    start = file.read(_PLANE.size)
    if len(start) < _PLANE.size:
        raise DamagedDeltaError("it ends too early")
    method, size = _PLANE.unpack(start)
    if method not in (0, 1) or size > count:  # what does not shrink is stored as it is
        raise DamagedDeltaError(f"a plane of {count} bytes has the method {method} and the length {size}")
    data = file.read(size)
    if method == 1 and len(data) == size:
        try:
            data = _codec().decompress(data, decompressed_size=count, asbytes=True)
        except (pa.ArrowException, OSError) as error:
            raise DamagedDeltaError(f"a plane cannot be decompressed: {error}") from error
    if len(data) != count:
        raise DamagedDeltaError(f"a plane of {count} bytes has {len(data)}")
    return data


# --------------------------------------------------------------------------------------------------- layout


def _header(file: BinaryIO) -> bytes | None:
    """What precedes the data of a safetensors file; None if it is none. The file stands at the data then."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        return None
    return start + file.read(length)


def _runs(header: bytes, num_data: int) -> list[_Run] | None:
    """Which kinds of values the data hold, in order and without gaps; None if the header does not say."""
    try:
        entries = [entry for name, entry in json.loads(header[8:]).items() if name != "__metadata__"]
        tensors = sorted(
            (int(start), int(stop), str(e["dtype"])) for e in entries for start, stop in [e["data_offsets"]]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    runs: list[_Run] = []
    end = 0
    for start, stop, dtype in tensors:
        if start != end or stop < start:
            return None
        width = WIDTHS.get(dtype, 1)
        if (stop - start) % width:
            return None
        runs.append(_Run(start, stop, width, width > 1 and "F" in dtype))
        end = stop
    if end != num_data:
        return None
    merged = [list(same) for _, same in groupby(runs, key=lambda run: (run.width, run.floats))]
    return [_Run(same[0].start, same[-1].stop, same[0].width, same[0].floats) for same in merged]


def _blocks(runs: list[_Run]) -> Iterator[tuple[int, int, int, bool]]:
    """Start, stop, width and whether they are floats, of what is coded together."""
    for run in runs:
        for start in range(run.start, run.stop, BLOCK_BYTES):
            yield start, min(run.stop, start + BLOCK_BYTES), run.width, run.floats


# ---------------------------------------------------------------------------------------------- description


class _Checksummed:
    """Counts and hashes what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.checksum = xxhash.xxh3_128()

    def write(self, data: bytes) -> None:
        self.checksum.update(data)
        self.size += self._file.write(data)


def _write_description(sink: _Checksummed, description: DeltaDescription) -> None:
    text = json.dumps(asdict(description)).encode()
    sink.write(_START.pack(MAGIC, MODEL_DELTA_FORMAT_VERSION, len(text)))
    sink.write(text)


def _read_description(file: BinaryIO) -> DeltaDescription:
    start = file.read(_START.size)
    if len(start) < _START.size:
        raise DamagedDeltaError("it ends too early")
    magic, version, length = _START.unpack(start)
    if magic != MAGIC or version != MODEL_DELTA_FORMAT_VERSION or length > MAX_DESCRIPTION_BYTES:
        raise DamagedDeltaError(
            f"it begins with {magic!r}, format {version}; expected {MAGIC!r}, format {MODEL_DELTA_FORMAT_VERSION}"
        )
    try:
        fields = json.loads(file.read(length))
        return DeltaDescription(
            str(fields["base"]), str(fields["model"]), int(fields["num_bytes"]), int(fields["chain_position"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedDeltaError(f"its description cannot be read: {error}") from error
