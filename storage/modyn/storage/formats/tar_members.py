"""Members of tar archives, read strictly: a damaged or missing end is an error, never fewer members."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modyn.core.errors import CorruptDataError
from modyn.storage.formats.compressed import opened

BUFFER_BYTES = 8 << 10
"""Small: Python's reader copies what is left of it at every call."""


class _StrictHeader(tarfile.TarInfo):
    """Where Python's reader takes a damaged header for the archive's end, this raises."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the block of zeros that ends an archive
            raise
        except tarfile.HeaderError as error:
            where = tarfile_.offset
            if isinstance(error, tarfile.EmptyHeaderError | tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
                raise CorruptDataError(f"is cut short: it ends at byte {where} without an end mark") from error
            raise CorruptDataError(f"is no tar archive, or damaged, at byte {where}: {error}") from error


def members(path: Path, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the regular files in an archive, which may be compressed, in their order.

    Args:
        max_bytes: no file may be larger.

    Raises:
        CorruptDataError: the archive is damaged.
        OSError: the compressed data is.
    """
    with opened(path) as file:
        try:
            with tarfile.open(
                fileobj=file, mode="r|", tarinfo=_StrictHeader, bufsize=BUFFER_BYTES, encoding="utf-8"
            ) as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # would grow with the archive
                    if not member.isreg():
                        continue
                    if member.size > max_bytes:
                        raise CorruptDataError(
                            f"member {member.name!r} has {member.size} bytes; a sample may have up to {max_bytes}"
                        )
                    content = archive.extractfile(member)
                    data = content.read() if content is not None else b""
                    if len(data) != member.size:
                        raise CorruptDataError(f"is cut short within member {member.name!r}")
                    yield member.name, data
        except tarfile.TarError as error:
            raise CorruptDataError(f"cannot be read as tar: {error}") from error
        while file.read(BUFFER_BYTES):  # the checksum of compressed data stands at its end
            pass
