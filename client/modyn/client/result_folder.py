"""Writing results so that nothing of others is overwritten and a crash leaves nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.files import TEMPORARY_PREFIX, atomic_path, fsync_directory, fsync_file


class ResultFolder:
    """A folder of results of one kind.

    Args:
        path: a folder that does not exist yet, is empty, or holds earlier results of this kind; nothing else is
            overwritten.
        option: that named it, for messages.
        marker: the JSON file by which its results are recognised; it is written last.
        is_ours: whether the content of a marker is of this kind.
        kind: what it holds, for messages, such as ``report``.
    """

    def __init__(self, path: Path, *, option: str, marker: str, is_ours: Callable[[object], bool], kind: str) -> None:
        self.path = path.absolute()
        self._option = option
        self._marker = marker
        self._is_ours = is_ours
        self._kind = kind

    def check(self) -> None:
        """
        Raises:
            InvalidInputError: the folder holds something else, or cannot be written.
        """
        where = f"{self._option} {self.path}"
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInputError(f"{where}: a file is there; name a folder")
        existing = next((p for p in (self.path, *self.path.parents) if p.exists()), self.path)
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InvalidInputError(f"{where}: {existing} is not writable; name another folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not self.holds_results():
            raise InvalidInputError(
                f"{where}: the folder is not empty and holds no {self._kind} of this tool; nothing in it was touched, "
                "name another folder"
            )

    def holds_results(self) -> bool:
        """Whether earlier results of this kind are here."""
        try:
            return self._is_ours(json.loads((self.path / self._marker).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return False

    def write(self, fill: Callable[[Path], None], *, replaces: Iterable[str] = (), remedy: str = "") -> None:
        """Writes everything, so that a crash leaves no half-written file.

        Args:
            fill: writes files, and folders of files, into an empty folder.
            replaces: what earlier results may have had and these may not; removed.
            remedy: what to do if it cannot be written.

        Raises:
            InvalidInputError: as of :meth:`check`.
            ModynError: it cannot be written.
        """
        self.check()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self.path.parent))
        except OSError as error:
            raise self._unwritten(error, remedy) from error
        try:
            staging.chmod(0o777 & ~_umask())
            fill(staging)
            for path in staging.rglob("*"):
                if path.is_file():
                    fsync_file(path)
            self._publish(staging, replaces)
        except OSError as error:
            raise self._unwritten(error, remedy) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _publish(self, staging: Path, replaces: Iterable[str]) -> None:
        if not self.path.exists():
            fsync_directory(staging)
            staging.rename(self.path)
            fsync_directory(self.path.parent)
            return
        # Files of others in the folder stay, so the folder itself cannot be exchanged; the marker comes last.
        for name in replaces:
            _remove(self.path / name)
        for path in sorted(staging.iterdir(), key=lambda path: path.name == self._marker):
            if path.is_dir():
                _remove(self.path / path.name)
            path.replace(self.path / path.name)
        fsync_directory(self.path)

    def _unwritten(self, error: OSError, remedy: str) -> ModynError:
        reason = error.strerror or error
        return ModynError(f"{self._option} {self.path}: cannot be written: {reason}{remedy and f'; {remedy}'}")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; an existing one is replaced.

    Raises:
        ModynError: it cannot be written.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path}: a folder is there; name a file")
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModynError(f"{path}: cannot be written: {error.strerror or error}; name another file") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
