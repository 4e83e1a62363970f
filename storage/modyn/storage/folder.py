"""Looking at a source's folder: which files are there, and which of them are complete."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modyn.core.errors import UnavailableError
from modyn.storage.manifest import FileVersion

logger = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000
UNFINISHED_SUFFIXES = (".tmp", ".part")
IGNORED_PREFIXES = (".", "_")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as found.

    Attributes:
        location: absolute path.
        name: path relative to the source's folder, with forward slashes; bytes that are no UTF-8 are escaped.
    """

    location: str
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def path(self) -> Path:
        return Path(self.location)  # made when needed: a folder may hold a million files

    @property
    def version(self) -> FileVersion:
        return FileVersion(self.name, self.size, self.mtime_ns)


def identity_of(location: str) -> tuple[int, int] | None:
    """Size in bytes and modification time in ns; None if the file is gone."""
    try:
        stat = os.stat(location)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def list_files(folder: Path, pattern: str) -> list[SourceFile]:
    """Files below a folder that match a glob. Hidden, ``_``-prefixed and unfinished ones are left out.

    Raises:
        UnavailableError: the folder is gone.
    """
    matches = glob_regex(pattern).fullmatch
    if not folder.is_dir():
        raise UnavailableError(f"data.source.path {folder} is no longer a folder; restore it")
    return [file for entry, name in _walk(folder, "") if matches(name) and (file := _source_file(entry, name))]


class CompletenessTracker:
    """Tells complete files from those still being written.

    A file is complete once its modification time is ``settle_seconds`` old, or it was renamed into place (its status
    changed after its content), or it looks the same as ``settle_seconds`` ago.
    """

    def __init__(self, settle_seconds: float = 1.0) -> None:
        self.settle_seconds = settle_seconds
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}

    def is_complete(self, file: SourceFile) -> bool:
        if self._is_settled(file.mtime_ns, file.ctime_ns):
            self._seen.pop(file.name, None)
            return True
        now = time.monotonic()
        identity = (file.size, file.mtime_ns)
        before = self._seen.get(file.name)
        if before is None or before[0] != identity:
            self._seen[file.name] = (identity, now)
            return self.settle_seconds == 0
        return now - before[1] >= self.settle_seconds

    def companion_is_complete(self, path: Path) -> bool:
        """The same of a file beside it, which need not exist."""
        try:
            stat = path.stat()
        except OSError:
            return True
        return self.is_complete(SourceFile(str(path), str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))

    def _is_settled(self, mtime_ns: int, ctime_ns: int) -> bool:
        return time.time_ns() - mtime_ns >= self.settle_seconds * NANOSECONDS or ctime_ns > mtime_ns


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A regular expression for a glob: ``*`` and ``?`` stay within a folder, ``**/`` crosses any number of them."""
    out = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            out.append("(?:.*/)?")
            position += 3
        elif pattern.startswith("**", position):
            out.append(".*")
            position += 2
        elif pattern[position] == "*":
            out.append("[^/]*")
            position += 1
        elif pattern[position] == "?":
            out.append("[^/]")
            position += 1
        elif pattern[position] == "[" and (end := pattern.find("]", position + 2)) > 0:
            body = pattern[position + 1 : end].replace("\\", "\\\\")
            out.append(f"[^{body[1:]}]" if body[0] == "!" else f"[{body}]")
            position = end + 1
        else:
            out.append(re.escape(pattern[position]))
            position += 1
    return re.compile("".join(out), re.DOTALL)


def _walk(folder: Path | str, prefix: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:  # vanished meanwhile, or not ours to read
        logger.warning("cannot look into %s: %s", folder, error.strerror)
        return
    for entry in entries:
        if entry.name.startswith(IGNORED_PREFIXES):
            continue
        name = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, name + "/")
        elif not name.endswith(UNFINISHED_SUFFIXES):
            yield entry, name


def _source_file(entry: os.DirEntry[str], name: str) -> SourceFile | None:
    try:
        if not entry.is_file():
            return None
        stat = entry.stat()
    except OSError:
        return None
    return SourceFile(entry.path, name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
