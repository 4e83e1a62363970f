"""Remote folders by fsspec, for all schemes that PyArrow itself does not serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import fsspec

from modyn.core.errors import InvalidInputError
from modyn.core.locations import Option, scheme_of
from modyn.storage.filesystems import CHUNK_BYTES, RemoteFolder, RemoteObject, service_errors

NANOSECONDS = 1_000_000_000


def fsspec_folder(uri: str, options: Mapping[str, Option]) -> RemoteFolder:
    """The folder of a URI.

    Raises:
        InvalidInputError: its scheme or an option is unknown, or a package is missing.
    """
    scheme = scheme_of(uri)
    if scheme not in fsspec.available_protocols():
        raise InvalidInputError(
            f"data.source.path {uri}: no file system is known for {scheme}://; expected a local folder, s3://, gs://, "
            f"or a scheme of fsspec whose package is installed: {', '.join(sorted(fsspec.available_protocols()))}"
        )
    try:
        files, root = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        raise InvalidInputError(
            f"data.source.path {uri}: {scheme}:// needs a package where storage runs: {error}"
        ) from error
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"data.source.options cannot be used with {scheme}://: {error}") from error
    return _FsspecFolder(uri.rstrip("/"), files, root.rstrip("/"))


class _FsspecFolder(RemoteFolder):
    """On a file system of fsspec."""

    def __init__(self, uri: str, files: Any, root: str) -> None:
        super().__init__(uri)
        self._files = files
        self._root = root
        self._raw: dict[str, str] = {}  # keys that are no UTF-8, by their escaped form

    def list(self) -> list[RemoteObject]:
        try:
            with service_errors(self.uri):
                self._files.invalidate_cache()
                infos = self._files.find(self._root, detail=True)
                return [self._object(key, info) for key, info in infos.items() if info["type"] == "file"]
        except FileNotFoundError:
            return []

    def identity(self, name: str) -> tuple[int, int] | None:
        try:
            with service_errors(self.uri):
                self._files.invalidate_cache()
                return _identity(self._files.info(self._key(name)))
        except FileNotFoundError:
            return None

    def chunks(self, name: str) -> Iterator[bytes]:
        with service_errors(f"{self.uri}/{name}"), self._files.open(self._key(name), "rb") as stream:
            while data := stream.read(CHUNK_BYTES):
                yield data

    def exists(self) -> bool:
        top = self._root[: len(self._root) - len(self._root.lstrip("/"))] + self._root.lstrip("/").partition("/")[0]
        with service_errors(self.uri):
            return any(self._files.exists(place) for place in (self._root, top))

    def _object(self, key: str, info: Mapping[str, Any]) -> RemoteObject:
        name = key[len(self._root) :].lstrip("/")
        if not name.isascii():
            escaped = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if escaped != name:
                self._raw[escaped] = key
            name = escaped
        if info.get("size") is None:  # such as a web server's index
            info = self._files.info(key)
        return RemoteObject(name, *_identity(info))

    def _key(self, name: str) -> str:
        return self._raw.get(name) or f"{self._root}/{name}"


def _identity(info: Mapping[str, Any]) -> tuple[int, int]:
    """Size and time of an object; what tells its versions apart besides becomes the fraction of the time's second."""
    times = ("mtime", "LastModified", "last_modified", "modified", "updated", "timeModified", "created")
    time_ns = next((_nanoseconds(info[key]) for key in times if info.get(key)), 0)
    tags = ("ETag", "etag", "generation", "md5Hash", "checksum", "content_md5", "Content-MD5", "crc32c")
    tag = next((str(info[key]) for key in tags if info.get(key)), None)
    if tag is not None:
        digest = int.from_bytes(blake2b(tag.encode(), digest_size=8).digest(), "big")
        time_ns = time_ns - time_ns % NANOSECONDS + digest % NANOSECONDS
    return int(info.get("size") or 0), time_ns


def _nanoseconds(time: object) -> int:
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return 0
    if isinstance(time, datetime):
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
        return (since // timedelta(microseconds=1)) * 1000
    # In whole microseconds, as some listings have decimals for what elsewhere is a time.
    return round(time * 1_000_000) * 1000 if isinstance(time, (int, float)) else 0
