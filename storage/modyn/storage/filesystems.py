"""Folders in object stores and on other remote file systems: what is in them, and reading it.

PyArrow itself serves ``s3://`` and ``gs://``; every other scheme goes to fsspec and the package that it needs. All
errors of theirs come out as: the object is not there (``FileNotFoundError``), its name cannot be used
(``CorruptDataError``), or the service cannot be reached or refuses access (``UnavailableError``).
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple

from modyn.core.errors import CorruptDataError, InvalidInputError, ModynError, UnavailableError
from modyn.core.locations import Option, scheme_of
from modyn.core.plugins.formats import SourceFormat

CHUNK_BYTES = 8 << 20
"""Objects are read in requests of this size."""

S3_OPTIONS = (
    "anonymous", "connect_timeout", "endpoint_override", "external_id", "force_virtual_addressing", "load_frequency",
    "proxy_options", "region", "request_timeout", "role_arn", "scheme", "session_name", "tls_ca_file_path",
)  # fmt: skip
GCS_OPTIONS = ("anonymous", "endpoint_override", "project_id", "scheme", "target_service_account")
GCS_PATIENCE = timedelta(seconds=30)
"""How long PyArrow repeats a request; its own default is a quarter of an hour."""

_REFUSED = re.compile(
    r"ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN|EXPIRED_TOKEN"
    r"|UNRECOGNIZED_CLIENT|HTTP status (301|400|401|403)|Access ?Denied|Forbidden|NoSuchBucket|PERMISSION_DENIED"
    r"|configured region",
    re.IGNORECASE,
)

_VARYING = re.compile(r" \(Request ID: [^)]*\)| after \d+ ms")
"""Parts of messages that differ at every attempt, so that a watcher could not tell that it said so before."""


class AccessRefusedError(UnavailableError):
    """The service answers, but not with what was asked for; asking again at once is of no use."""


class RemoteObject(NamedTuple):
    """An object as a listing shows it.

    Attributes:
        name: relative to the source's URI, with forward slashes.
        size: bytes.
        mtime_ns: modification time, ns; its fraction of a second is made of the entity tag where one is listed. 0 where
            the service says neither.
    """

    name: str
    size: int
    mtime_ns: int


class RemoteFolder(ABC):
    """A URI with everything below it. Safe to use from many threads.

    Args:
        uri: without a slash at its end.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @abstractmethod
    def list(self) -> list[RemoteObject]:
        """All objects, in any order; none if there is nothing under this prefix.

        Raises:
            UnavailableError: the service cannot be reached, or refuses.
        """

    @abstractmethod
    def identity(self, name: str) -> tuple[int, int] | None:
        """Size in bytes and modification time in ns of an object, as in a listing; None if it is gone."""

    @abstractmethod
    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an object in pieces.

        Raises:
            FileNotFoundError: it is gone.
            CorruptDataError: it can be listed but not opened.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether the bucket (or the uppermost folder) is there."""

    def check(self) -> None:
        """
        Raises:
            InvalidInputError: there is no such bucket, or it must not be read.
            UnavailableError: the service cannot be reached.
        """
        try:
            found = self.exists()
        except AccessRefusedError as error:
            raise InvalidInputError(error.message) from error
        if not found:
            raise InvalidInputError(
                f"data.source.path {self.uri}: the bucket or uppermost folder does not exist; create it, or correct it"
            )


def remote_folder(source: SourceFormat) -> RemoteFolder:
    """The folder of a source whose path is a URI; nothing is asked of the service yet.

    Raises:
        InvalidInputError: its scheme or an option is unknown, or a package is missing.
    """
    uri = source.path.rstrip("/")
    scheme = scheme_of(source.path)
    if scheme in ("s3", "gs", "gcs"):
        bucket_and_prefix = uri.partition("://")[2]
        if not bucket_and_prefix:
            raise InvalidInputError(
                f"data.source.path {source.path}: expected a bucket, as in {scheme}://bucket/prefix"
            )
        return (
            _s3(uri, bucket_and_prefix, source.options)
            if scheme == "s3"
            else _gcs(uri, bucket_and_prefix, source.options)
        )
    from modyn.storage.fsspec_folder import fsspec_folder

    return fsspec_folder(source.path, source.options)


def _s3(uri: str, root: str, options: Mapping[str, Option]) -> RemoteFolder:
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    arguments = _known_options("s3", options, S3_OPTIONS)
    said = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    if not {"region", "endpoint_override"} & set(options) and not any(os.environ.get(name) for name in said):
        with suppress(OSError):  # private networks; the SDK's own idea of the region may do
            arguments["region"] = resolve_s3_region(root.partition("/")[0])
    return _ArrowFolder(uri, _created(S3FileSystem, arguments), root)


def _gcs(uri: str, root: str, options: Mapping[str, Option]) -> RemoteFolder:
    from pyarrow.fs import GcsFileSystem

    arguments = _known_options("gs", options, GCS_OPTIONS)
    return _ArrowFolder(uri, _created(GcsFileSystem, {"retry_time_limit": GCS_PATIENCE, **arguments}), root)


def _known_options(scheme: str, options: Mapping[str, Option], known: tuple[str, ...]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidInputError(
            f"data.source.options: {scheme}:// knows no option {unknown[0]!r}; expected {', '.join(known)}"
        )
    return dict(options)


def _created(cls: Any, arguments: dict[str, Any]) -> Any:
    try:
        return cls(**arguments)
    except (TypeError, ValueError, OSError) as error:
        raise InvalidInputError(f"data.source.options cannot be used: {error}") from error


class _ArrowFolder(RemoteFolder):
    """On a file system of PyArrow; ``root`` is the bucket with the prefix."""

    def __init__(self, uri: str, files: Any, root: str) -> None:
        super().__init__(uri)
        self._files = files
        self._root = root

    def list(self) -> list[RemoteObject]:
        from pyarrow.fs import FileSelector

        with service_errors(self.uri):
            infos = self._files.get_file_info(FileSelector(self._root, allow_not_found=True, recursive=True))
        start = len(self._root) + 1
        return [RemoteObject(info.path[start:], info.size, info.mtime_ns or 0) for info in infos if info.is_file]

    def identity(self, name: str) -> tuple[int, int] | None:
        with service_errors(self.uri):
            info = self._files.get_file_info(f"{self._root}/{name}")
        return (info.size, info.mtime_ns or 0) if info.is_file else None

    def chunks(self, name: str) -> Iterator[bytes]:
        path = f"{self._root}/{name}"
        with (
            service_errors(f"{self.uri}/{name}"),
            self._files.open_input_stream(path, compression=None) as stream,  # by default it decompresses `.gz`
        ):
            while data := stream.read(CHUNK_BYTES):
                yield data

    def exists(self) -> bool:
        from pyarrow.fs import FileType

        bucket, _, prefix = self._root.partition("/")
        with service_errors(self.uri):
            # The prefix first: that it may be listed is enough.
            places = [self._root, bucket] if prefix else [bucket]
            return any(self._files.get_file_info(place).type != FileType.NotFound for place in places)


@contextmanager
def service_errors(uri: str) -> Iterator[None]:
    """Turns the errors of every library into ours."""
    try:
        yield
    except (FileNotFoundError, ModynError, MemoryError):
        raise
    except ValueError as error:  # PyArrow refuses some names that a bucket can hold
        raise CorruptDataError(f"cannot be opened: {error}") from error
    except Exception as error:  # every service's library has errors of its own
        reason = _VARYING.sub("", str(error).strip()) or type(error).__name__
        if isinstance(error, PermissionError) or _REFUSED.search(reason):
            raise AccessRefusedError(
                f"data.source.path {uri} cannot be read: {reason}; check the bucket's name, its region, and the "
                "credentials in the environment of the storage service"
            ) from error
        raise UnavailableError(
            f"data.source.path {uri} cannot be reached: {reason}; it is tried again, check the network and the service"
        ) from error
