"""Looking at a source: which files are there, and which of them are complete."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from modyn.core.errors import UnavailableError
from modyn.core.globs import glob_regex
from modyn.core.plugins.formats import SourceFormat
from modyn.storage.filecache import FileCache
from modyn.storage.manifest import FileVersion

logger = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000
UNFINISHED_SUFFIXES = (".tmp", ".part")
IGNORED_PREFIXES = (".", "_")


class SourceFile(NamedTuple):
    """A file as found. A tuple, because a folder may hold a million files.

    Attributes:
        local: absolute path; empty for a remote file.
        name: path relative to the source's folder, with forward slashes; bytes that are no UTF-8 are escaped.
        cache: holds a local copy of a remote file.
        companions: of a remote file, with those that do not exist, by their names.
    """

    local: str
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    cache: FileCache | None = None
    companions: tuple[tuple[str, SourceFile | None], ...] = ()

    @property
    def location(self) -> str:
        """Absolute path of the file, or of its local copy, which need not be there yet."""
        return self.local if self.cache is None else self.cache.place(self.name)

    @property
    def uri(self) -> str | None:
        """Where to fetch it from; None for a local file."""
        return None if self.cache is None else f"{self.cache.remote.uri}/{self.name}"

    @property
    def path(self) -> Path:
        """A file to read. A remote one is fetched, with its companions; :meth:`release` it then.

        Raises:
            FileNotFoundError: a remote file was changed or removed.
            CorruptDataError: a remote file cannot be opened.
            UnavailableError: a remote file cannot be fetched now.
        """
        if self.cache is None:
            return Path(self.local)
        for name, companion in self.companions:
            if companion is None:
                self.cache.release(name, keep=False)  # a copy from earlier
            else:
                self.cache.fetch(name, companion.size, companion.mtime_ns)
        return Path(self.cache.fetch(self.name, self.size, self.mtime_ns))

    @property
    def version(self) -> FileVersion:
        return FileVersion(self.name, self.size, self.mtime_ns)

    def is_unchanged(self) -> bool:
        """Whether what was read is what was found. Copies of remote files always are."""
        return self.cache is not None or identity_of(self.local) == (self.size, self.mtime_ns)

    def release(self, *, keep: bool) -> None:
        """The scan has read the file; a local copy is kept for later reads, or is not needed any more."""
        if self.cache is not None:
            self.cache.release(self.name, keep=keep)
            for name, _ in self.companions:
                self.cache.release(name, keep=False)


class Listing(NamedTuple):
    """What is below a source's folder now.

    Attributes:
        files: those with samples.
        others: all other files by name, if the format has companions; among them they are.
    """

    files: list[SourceFile]
    others: dict[str, SourceFile]


def identity_of(location: str) -> tuple[int, int] | None:
    """Size in bytes and modification time in ns; None if the file is gone."""
    try:
        stat = os.stat(location)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def list_source(source: SourceFormat, cache: FileCache | None) -> Listing:
    """The files of a source. Hidden, ``_``-prefixed and unfinished ones are left out.

    Args:
        source: its path is the folder, or the root of the cache.
        cache: of remote files.

    Raises:
        UnavailableError: the folder is gone, or the service cannot be reached.
    """
    wants_others = type(source).companions is not SourceFormat.companions
    if cache is not None:
        return _sorted_out(_remote_files(cache), source.file_pattern, wants_others)
    folder = Path(source.path)
    listed = source.list_files(folder)
    if listed is not None:
        return Listing(list(_named_files(folder, listed)), {})
    return list_folder(folder, source.file_pattern, wants_others)


def list_files(folder: Path, pattern: str) -> list[SourceFile]:
    """Files below a local folder that match a glob."""
    return list_folder(folder, pattern, wants_others=False).files


def list_folder(folder: Path, pattern: str, wants_others: bool) -> Listing:
    if not folder.is_dir():
        raise UnavailableError(f"data.source.path {folder} is no longer a folder; restore it")
    files: list[SourceFile] = []
    others: dict[str, SourceFile] = {}
    matches = _matcher(pattern)
    for entry, name in _walk(str(folder), ""):
        if matches(name):
            if (file := _source_file(entry, name)) is not None:
                files.append(file)
        elif wants_others and (file := _source_file(entry, name)) is not None:
            others[name] = file
    return Listing(files, others)


def companions_of(
    source: SourceFormat, files: Iterable[SourceFile], listing: Listing
) -> Iterator[tuple[tuple[str, SourceFile | None], ...]]:
    """The companions of each of these files by name; None where one does not exist.

    A companion that is not below the source's folder is not seen.
    """
    if type(source).companions is SourceFormat.companions:
        yield from (() for _ in files)
        return
    by_name = listing.others
    if any(_matcher(source.file_pattern)(name) for file in listing.files[:1] for name in _names(source, file)):
        by_name = by_name | {file.name: file for file in listing.files}
    for file in files:
        yield tuple((name, by_name.get(name)) for name in _names(source, file))


def companion_versions(
    source: SourceFormat, files: Iterable[SourceFile], listing: Listing
) -> list[tuple[FileVersion, ...]]:
    """Versions of the existing companions of each of these files.

    A label file that appeared or changed later makes another entry than the one at ingest. Nothing can have changed
    while ``listing.others`` equals that of an earlier look, which is much cheaper to tell.
    """
    return [
        tuple(companion.version for _, companion in companions if companion is not None)
        for companions in companions_of(source, files, listing)
    ]


class CompletenessTracker:
    """Tells complete files from those still being written.

    A file is complete once its modification time is ``settle_seconds`` old, or it was renamed into place (its status
    changed after its content; or the system said so, as both may be within one tick of its clock), or it looks the same
    as ``settle_seconds`` ago. Objects are never seen half-written, but their times are often whole seconds: within that
    second another object of the same size would go unnoticed.
    """

    def __init__(self, settle_seconds: float = 1.0) -> None:
        self.settle_seconds = settle_seconds
        self.moved: set[str] = set()
        """Paths of files that were just renamed into place, as far as that is known."""
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}

    def is_complete(self, file: SourceFile) -> bool:
        if self._is_settled(file.mtime_ns, file.ctime_ns) or file.local in self.moved:
            self._seen.pop(file.name, None)
            return True
        now = time.monotonic()
        identity = (file.size, file.mtime_ns)
        before = self._seen.get(file.name)
        if before is None or before[0] != identity:
            self._seen[file.name] = (identity, now)
            return self.settle_seconds == 0
        return now - before[1] >= self.settle_seconds

    def _is_settled(self, mtime_ns: int, ctime_ns: int) -> bool:
        return time.time_ns() - mtime_ns >= self.settle_seconds * NANOSECONDS or ctime_ns > mtime_ns


def _matcher(pattern: str) -> Callable[[str], object]:
    """Tells whether a name matches a glob."""
    start, rest = pattern[:3], pattern[3:]
    if start == "**/" and "/" not in rest and "**" not in rest:  # most patterns: only the last part matters
        fullmatch = glob_regex(rest).fullmatch
        return lambda name: fullmatch(name, name.rfind("/") + 1)
    return glob_regex(pattern).fullmatch


def _walk(folder: str, prefix: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:  # vanished meanwhile, or not ours to read
        logger.warning("cannot look into %s: %s", folder, error.strerror)
        return
    for entry in entries:
        name = entry.name
        if name.startswith(IGNORED_PREFIXES):
            continue
        if not name.isascii():
            name = os.fsencode(name).decode("utf-8", "backslashreplace")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{name}/")
        elif not name.endswith(UNFINISHED_SUFFIXES):
            yield entry, prefix + name


def _source_file(entry: os.DirEntry[str], name: str) -> SourceFile | None:
    try:
        if not entry.is_file():
            return None
        stat = entry.stat()
    except OSError:
        return None
    return SourceFile(entry.path, name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _named_files(folder: Path, paths: Iterable[Path]) -> Iterator[SourceFile]:
    """Files of a list, by their names below the folder; those that are gone are left out."""
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        name = os.fsencode(os.path.relpath(path, folder)).decode("utf-8", "backslashreplace")
        yield SourceFile(str(path), name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _remote_files(cache: FileCache) -> Iterator[SourceFile]:
    for name, size, mtime_ns in cache.list():
        hidden = name.startswith(IGNORED_PREFIXES) or "/." in name or "/_" in name
        if name and not hidden and not name.endswith(UNFINISHED_SUFFIXES):
            yield SourceFile("", name, size, mtime_ns, mtime_ns, cache)


def _sorted_out(found: Iterable[SourceFile], pattern: str, wants_others: bool) -> Listing:
    files: list[SourceFile] = []
    others: dict[str, SourceFile] = {}
    matches = _matcher(pattern)
    for file in found:
        if matches(file.name):
            files.append(file)
        elif wants_others:
            others[file.name] = file
    return Listing(files, others)


def _names(source: SourceFormat, file: SourceFile) -> Iterator[str]:
    """Names of a file's companions."""
    root = os.path.join(source.path, "")
    for path in source.companions(Path(source.path, file.name) if file.cache is not None else Path(file.local)):
        local = str(path)
        if local.startswith(root):
            yield os.fsencode(local[len(root) :]).decode("utf-8", "backslashreplace")
