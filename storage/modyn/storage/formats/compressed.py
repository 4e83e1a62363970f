"""Files that may be compressed: gzip and zstd are recognised by their first bytes, whatever the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

_MAGICS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

ENDINGS = "{,.gz,.zst,.zstd}"
"""End of a glob for files that may be compressed."""


def compression_of(path: Path) -> str | None:
    """``gzip``, ``zstd`` or None."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for magic, name in _MAGICS.items() if start.startswith(magic)), None)


@contextmanager
def opened(path: Path) -> Iterator[pa.NativeFile]:
    """A file's content, decompressed. One that is cut short raises OSError when its end is read."""
    compression = compression_of(path)
    with pa.OSFile(str(path), "rb") as file:
        if compression is None:
            yield file
        else:
            with pa.CompressedInputStream(file, compression) as stream:
                yield stream
