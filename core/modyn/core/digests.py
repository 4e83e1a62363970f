"""Digests that name blobs by content and results by their inputs (BLAKE2b, 160 bits, hex)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_BYTES = 20


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


def digest_inputs(inputs: dict[str, Any]) -> str:
    """Digest of a tree of plain values (str, int, float, bool, None, list, dict), independent of key order.

    Raises:
        TypeError: a value is of another type.
    """
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True)
    return digest_bytes(text.encode())
