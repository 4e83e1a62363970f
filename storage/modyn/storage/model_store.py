"""Stored models: immutable files named by the digest of their bytes."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from modyn.core.arrow import MESSAGE_BYTES
from modyn.core.digests import DIGEST_BYTES, Digest
from modyn.core.errors import ConflictError, CorruptDataError, InvalidInputError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, fsync_file, remove_leftovers

_DIGEST = re.compile(f"[0-9a-f]{{{2 * DIGEST_BYTES}}}")


class ModelStore:
    """Models in one folder, ``<digest>.safetensors`` each.

    Args:
        read_only: another process writes to the folder.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only
        if not read_only:
            remove_leftovers(folder)

    def store(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Stores a model; storing the same bytes again changes nothing.

        Returns:
            Its digest and its size in bytes. It is on disk when this returns.

        Raises:
            InvalidInputError: there are no bytes.
            ConflictError: this process only reads.
        """
        if self._read_only:
            raise ConflictError(
                "this storage service only serves reads (--replica), so no model is stored; "
                "send it to the service that writes"
            )
        digest, size = Digest(), 0
        temporary = self._folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    size += file.write(chunk)
            if size == 0:
                raise InvalidInputError("the model to store has no bytes; expected one safetensors file")
            target = self._path(digest.hexdigest())
            fsync_file(temporary)
            os.replace(temporary, target)
            fsync_directory(self._folder)
        finally:
            temporary.unlink(missing_ok=True)
        return digest.hexdigest(), size

    def fetch(self, digest: str) -> Iterator[bytes]:
        """A model's bytes in chunks of about 1 MiB.

        Raises:
            NotFoundError: there is none with this digest.
            CorruptDataError: at the end, if the bytes do not have this digest.
        """
        self.size(digest)
        found = Digest()
        with self._path(digest).open("rb") as file:
            while chunk := file.read(MESSAGE_BYTES):
                found.update(chunk)
                yield chunk
        if found.hexdigest() != digest:
            raise CorruptDataError(
                f"stored model {self._path(digest)} does not match its digest (it has {found.hexdigest()}); "
                "restore it from a copy or train it again"
            )

    def size(self, digest: str) -> int:
        """A model's size in bytes.

        Raises:
            NotFoundError: there is none with this digest.
        """
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFoundError(f"no model with digest {digest} is stored here") from None

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InvalidInputError(f"model digest {digest!r}: expected {2 * DIGEST_BYTES} hexadecimal digits")
        return self._folder / f"{digest}.safetensors"
