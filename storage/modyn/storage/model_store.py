"""Stored models: immutable files named by the digest of their bytes, whole or as a difference from a whole one.

Longer than most modules because whatever changes the folder is guarded by one lock.
"""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modyn.core.arrow import MESSAGE_BYTES
from modyn.core.digests import DIGEST_BYTES, Digest
from modyn.core.errors import ConflictError, CorruptDataError, InvalidInputError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, fsync_file, remove_leftovers
from modyn.storage.model_deltas import DamagedDeltaError, DeltaDescription, describe, is_intact, read_delta, write_delta

WHOLE, DELTA = ".safetensors", ".delta"

_DIGEST = re.compile(f"[0-9a-f]{{{2 * DIGEST_BYTES}}}")

_TRIES = 3
"""How often a model is looked up that is rewritten meanwhile."""

MAX_NAMED = 5
"""Models that one message names."""


@dataclass(frozen=True)
class ModelFile:
    """A stored model.

    Attributes:
        digest: of its bytes.
        num_bytes: of the model.
        stored_bytes: on disk.
        base: digest of the whole model that it is stored as a difference from; None: it is whole itself.
        chain_position: models since the last whole one; 0: it is whole.
        stored_at: when it was stored last, Unix seconds.
    """

    digest: str
    num_bytes: int
    stored_bytes: int
    base: str | None
    chain_position: int
    stored_at: float


class ModelStore:
    """Models in one folder: ``<digest>.safetensors`` the whole ones, ``<digest>.delta`` the others.

    A model is stored as a difference from a whole one only, so a fetch reads two files at most. A whole model is not
    removed while others are differences from it: one lock is held by whatever puts a file in place or removes one. Of a
    model that is there in both forms, as a crash between two steps of a rewriting may leave it, the whole one counts.

    Args:
        read_only: another process writes to the folder.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only
        self._changing = threading.Lock()
        if not read_only:
            remove_leftovers(folder)

    def store(
        self, chunks: Iterable[bytes], *, parent: str | None = None, full_model_interval: int | None = None
    ) -> ModelFile:
        """Stores a model; storing the same bytes again changes nothing but when it was stored last.

        Args:
            chunks: its bytes, one safetensors file.
            parent: a stored model that it may be much like. It is stored as a difference from this one, or from the
                whole model that this one is a difference from, if that saves bytes and both have the same tensors.
            full_model_interval: of a chain of models, each with the one before as its parent, every so many are whole;
                None: only the first.

        Returns:
            What is on disk when this returns.

        Raises:
            InvalidInputError: there are no bytes.
            ConflictError: this process only reads.
        """
        self._check_writes("stored")
        with self._temporary() as temporary:
            digest, size = _write(temporary, chunks)
            if size == 0:
                raise InvalidInputError("the model to store has no bytes; expected one safetensors file")
            if self._is_delta_intact(digest) and self._touch(digest):
                return self.describe(digest)
            planned = self._planned(digest, size, parent, full_model_interval)
            if planned is None or not self._store_delta(temporary, planned):
                fsync_file(temporary)
                with self._changing:
                    self._put_whole(temporary, digest)
        return self.describe(digest)

    def fetch(self, digest: str) -> Iterator[bytes]:
        """A model's bytes in chunks of about 1 MiB.

        Raises:
            NotFoundError: there is none with this digest.
            CorruptDataError: at the end, if the bytes do not have this digest; or before, if they cannot be restored.
        """
        found = Digest()
        for chunk in self._read(digest):
            found.update(chunk)
            yield from (chunk[start : start + MESSAGE_BYTES] for start in range(0, len(chunk), MESSAGE_BYTES))
        if found.hexdigest() != digest:
            raise self._corrupt(digest, f"what it holds has the digest {found.hexdigest()}")

    def describe(self, digest: str) -> ModelFile:
        """
        Raises:
            NotFoundError: there is none with this digest.
            CorruptDataError: it is damaged where it says what it is.
        """
        for _ in range(_TRIES):
            try:
                status = self._path(digest, WHOLE).stat()
            except FileNotFoundError:
                pass
            else:
                return ModelFile(digest, status.st_size, status.st_size, None, 0, status.st_mtime)
            path = self._path(digest, DELTA)
            try:
                said, status = describe(path), path.stat()
            except FileNotFoundError:
                continue  # unless it was rewritten at this moment, it is not there
            except DamagedDeltaError as error:
                raise self._corrupt(digest, str(error)) from error
            return ModelFile(digest, said.num_bytes, status.st_size, said.base, said.chain_position, status.st_mtime)
        raise _missing(digest)

    def use(self, digest: str) -> ModelFile:
        """Like :meth:`describe`, and the model counts as stored now, for somebody is about to use it."""
        if not self._read_only:
            with self._changing:  # a removal that looks how old it is comes before or after
                for path in self._files(digest):
                    os.utime(path)
        return self.describe(digest)

    def all(self) -> list[ModelFile]:
        """All models that can be described, by digest."""
        return self._models(WHOLE, DELTA)

    def delete(
        self, digest: str, *, rewrite_dependents: bool = False, unless_after: float | None = None
    ) -> tuple[int, list[str]]:
        """Removes a model for good.

        Args:
            digest: of the model.
            rewrite_dependents: first store whole what is stored as a difference from it.
            unless_after: keep it if it was stored later than this, Unix seconds.

        Returns:
            Bytes won on disk, fewer than none if models were rewritten; and digests of those.

        Raises:
            NotFoundError: there is none with this digest.
            ConflictError: other models are differences from it, and are not to be rewritten; or it was stored too late;
                or this process only reads.
            CorruptDataError: a model to rewrite is damaged; nothing was removed.
        """
        self._check_writes("deleted")
        self.check_digest(digest)
        with self._changing:
            found = [path.stat() for path in self._files(digest)]
            if not found:
                raise _missing(digest)
            if unless_after is not None and any(status.st_mtime > unless_after for status in found):
                raise ConflictError(f"model {digest} was stored again meanwhile")
            size = sum(status.st_size for status in found)
            dependents = self._dependents(digest)
            if dependents and not rewrite_dependents:
                raise ConflictError(
                    f"model {digest} is what {_named(dependents)} is stored as a difference from; delete these first, "
                    "or let them be rewritten whole (`modyn-client models delete --rewrite`)"
                )
            for model in dependents:
                self._rewrite(model.digest)
                size += model.stored_bytes - model.num_bytes
            self._remove(digest)
        return size, [model.digest for model in dependents]

    def collect(
        self, keep: set[str], *, older_than_seconds: float, dry_run: bool, now: Callable[[], float] = time.time
    ) -> Iterator[ModelFile]:
        """Removes models that nobody keeps.

        A whole model stays while one that stays is a difference from it. Each is named once it is removed.

        Args:
            keep: digests of models that stay.
            older_than_seconds: those stored later than so long ago stay too.
            dry_run: only name them.
        """
        if not dry_run:
            self._check_writes("removed")
        known = self.all()
        before = now() - older_than_seconds
        stay = {model.digest for model in known if model.digest in keep or model.stored_at > before}
        stay |= {model.base for model in known if model.digest in stay and model.base is not None}
        # Differences first: what they are differences from can go once they are gone.
        for model in sorted(known, key=lambda model: model.base is None):
            if model.digest in stay:
                continue
            if not dry_run:
                try:
                    self.delete(model.digest, unless_after=before)
                except (NotFoundError, ConflictError):  # somebody was faster, or stored it or a difference from it anew
                    continue
            yield model

    @staticmethod
    def check_digest(digest: str) -> None:
        """
        Raises:
            InvalidInputError: it is no digest.
        """
        if not _DIGEST.fullmatch(digest):  # it comes from callers, and becomes a path
            raise InvalidInputError(f"model digest {digest!r}: expected {2 * DIGEST_BYTES} hexadecimal digits")

    # ------------------------------------------------------------------------------------------------- reading

    def _models(self, *suffixes: str) -> list[ModelFile]:
        """Models that have such files, by digest."""
        found: list[ModelFile] = []
        for digest in sorted({path.stem for path in self._folder.iterdir() if path.suffix in suffixes}):
            try:
                if _DIGEST.fullmatch(digest):
                    found.append(self.describe(digest))
            except (NotFoundError, CorruptDataError):  # removed at this moment; or told to whoever asks for it
                continue
        return found

    def _read(self, digest: str) -> Iterator[bytes]:
        """The bytes as they are restored, unchecked."""
        for attempt in range(_TRIES):
            described = self.describe(digest)
            try:
                pieces = self._pieces(described)
                first = next(pieces, b"")  # opens the files; what is open stays readable
            except FileNotFoundError:
                if described.base is not None and attempt == _TRIES - 1:
                    raise self._corrupt(digest, "it is missing", self._path(described.base, WHOLE)) from None
                continue
            yield first
            yield from pieces
            return
        raise _missing(digest)

    def _pieces(self, model: ModelFile) -> Iterator[bytes]:
        if model.base is None:
            with self._path(model.digest, WHOLE).open("rb") as file:
                while chunk := file.read(MESSAGE_BYTES):
                    yield chunk
            return
        try:
            yield from read_delta(self._path(model.digest, DELTA), self._path(model.base, WHOLE))
        except DamagedDeltaError as error:
            raise self._corrupt(model.digest, str(error)) from error

    def _corrupt(self, digest: str, why: str, path: Path | None = None) -> CorruptDataError:
        """An error that names the damaged file: the model's own, or the one that it is a difference from."""
        if path is None:
            path = self._path(digest, WHOLE)
        if not path.exists() and path.stem == digest:
            path = self._path(digest, DELTA)
            with suppress(FileNotFoundError, DamagedDeltaError):
                if is_intact(path):
                    path = self._path(describe(path).base, WHOLE)
                    why = f"{why}; model {digest} is a difference from it"
        return CorruptDataError(
            f"stored model {path} does not match its digest ({why}); restore it from a copy, or delete the file and "
            "train it again"
        )

    # ------------------------------------------------------------------------------------------------- writing

    def _planned(self, digest: str, size: int, parent: str | None, interval: int | None) -> DeltaDescription | None:
        """The difference as which a model is to be stored; None: it is to be whole."""
        if parent is None or self._path(digest, WHOLE).exists():
            return None
        try:
            described = self.describe(parent)
        except (NotFoundError, CorruptDataError):
            return None
        position = described.chain_position + 1
        if interval is not None and position >= interval:
            return None
        return DeltaDescription(described.base or parent, digest, size, position)

    def _store_delta(self, model: Path, planned: DeltaDescription) -> bool:
        """Whether a model could be stored as a difference."""
        base = self._path(planned.base, WHOLE)
        with self._temporary() as temporary:
            try:
                if not write_delta(temporary, base=base, model=model, description=planned):
                    return False
            except FileNotFoundError:  # the base was removed
                return False
            fsync_file(temporary)
            with self._changing:
                if not base.exists() or self._path(planned.model, WHOLE).exists():
                    return False
                os.replace(temporary, self._path(planned.model, DELTA))
                fsync_directory(self._folder)
        return True

    def _put_whole(self, temporary: Path, digest: str) -> None:
        """Puts an fsynced file in place; the lock is held."""
        os.replace(temporary, self._path(digest, WHOLE))
        fsync_directory(self._folder)
        delta = self._path(digest, DELTA)
        if delta.exists():
            delta.unlink()
            fsync_directory(self._folder)

    def _rewrite(self, digest: str) -> None:
        """Stores whole what is a difference; the lock is held."""
        stored_at = self.describe(digest).stored_at
        with self._temporary() as temporary:
            with temporary.open("wb") as file:
                file.writelines(self.fetch(digest))
            os.utime(temporary, (stored_at, stored_at))
            fsync_file(temporary)
            self._put_whole(temporary, digest)

    def _dependents(self, digest: str) -> list[ModelFile]:
        """What is stored as a difference from a model; the lock is held."""
        if not self._path(digest, WHOLE).exists():
            return []  # differences are from whole models only
        return [model for model in self._models(DELTA) if model.base == digest]

    def _touch(self, digest: str) -> bool:
        """Says that a difference was stored now; whether it is still there."""
        with self._changing:
            try:
                os.utime(self._path(digest, DELTA))
            except FileNotFoundError:
                return False
        return True

    def _remove(self, digest: str) -> None:
        """Removes the files of a model, the whole one last: without it, a leftover difference would count again."""
        for path in sorted(self._files(digest), key=lambda path: path.suffix == WHOLE):
            path.unlink()
            fsync_directory(self._folder)

    def _is_delta_intact(self, digest: str) -> bool:
        """Whether a model is stored as a difference, and can be restored."""
        if self._path(digest, WHOLE).exists() or not self._path(digest, DELTA).exists():
            return False
        try:
            for _ in self.fetch(digest):
                pass
        except (NotFoundError, CorruptDataError):
            return False
        return True

    def _check_writes(self, what: str) -> None:
        if self._read_only:
            raise ConflictError(
                f"this storage service only serves reads (--replica), so no model is {what}; "
                "ask the service that writes"
            )

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self._folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _files(self, digest: str) -> list[Path]:
        return [path for path in (self._path(digest, WHOLE), self._path(digest, DELTA)) if path.exists()]

    def _path(self, digest: str, suffix: str) -> Path:
        self.check_digest(digest)
        return self._folder / f"{digest}{suffix}"


def _write(path: Path, chunks: Iterable[bytes]) -> tuple[str, int]:
    """Writes chunks to a file; answers the digest and the number of the bytes."""
    digest, size = Digest(), 0
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            size += file.write(chunk)
    return digest.hexdigest(), size


def _named(models: list[ModelFile]) -> str:
    named = ", ".join(model.digest for model in models[:MAX_NAMED])
    return named + (f" and {len(models) - MAX_NAMED} more" if len(models) > MAX_NAMED else "")


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(
        f"no model with digest {digest} is stored here; if it was removed (model_storage.retention, `models delete`), "
        "running its pipeline again trains it again"
    )
