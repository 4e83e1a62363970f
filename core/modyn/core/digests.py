"""Digests and checksums.

A *digest* names a blob by its content or a result by its inputs (BLAKE2b, 160 bits, hex). A *checksum* tells whether
bulk data are those that were written (XXH3, 128 bits, hex): it costs a tenth, and resists accidents but no attacker.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from pathlib import Path
from typing import Any

import xxhash

DIGEST_BYTES = 20
CHECKSUM_CHARS = 32

_BLOCK_BYTES = 1 << 20


class Digest:
    """An incremental digest."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def update(self, data: bytes | memoryview) -> Digest:
        self._hash.update(data)
        return self

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def digest_bytes(data: bytes | memoryview) -> str:
    """Of bytes in memory."""
    return Digest().update(data).hexdigest()


def digest_file(path: Path) -> str:
    """Of a file's bytes, read piece by piece.

    Raises:
        OSError: the file cannot be read.
    """
    digest = Digest()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def checksum_bytes(*data: bytes | memoryview | mmap.mmap) -> str:
    """Of the concatenation of bytes in memory."""
    checksum = xxhash.xxh3_128()
    for part in data:
        checksum.update(part)
    return checksum.hexdigest()


def checksum_file(path: Path | str) -> str:
    """Of a file's bytes, read piece by piece.

    Raises:
        OSError: the file cannot be read.
    """
    checksum = xxhash.xxh3_128()
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while size := os.readv(fd, [block]):
            checksum.update(view[:size])
    finally:
        os.close(fd)
    return checksum.hexdigest()


def matches(path: Path | str, expected: str) -> bool:
    """Whether a file has a checksum, or a digest as earlier releases wrote for segments.

    Raises:
        OSError: the file cannot be read.
    """
    found = checksum_file(path) if len(expected) == CHECKSUM_CHARS else digest_file(Path(path))
    return found == expected


def digest_inputs(inputs: dict[str, Any]) -> str:
    """Digest of a tree of plain values (str, int, float, bool, None, list, dict), independent of key order.

    Raises:
        TypeError: a value is of another type.
    """
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True)
    return digest_bytes(text.encode())
