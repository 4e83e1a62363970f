"""Where a source's files are: a local folder, or a URI of an object store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

Option = bool | int | float | str
"""Value of an option of a file system."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SECRET_KEY = re.compile(
    r"secret|token|passw|passphrase|access_?key|account_?key|connection_?string|credential|private|(^|_)(key|sas)$",
    re.IGNORECASE,
)
_PASSWORD_IN_URI = re.compile(r"://[^/@]*:[^/@]*@")

SECRETS_BELONG = (
    "secrets would be stored in the catalog and shown by `describe`; give them to the storage service by its "
    "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's own role)"
)


def scheme_of(path: str) -> str | None:
    """Lower-case scheme of a URI such as ``s3://bucket/prefix``; None of a local path."""
    match = _URI.match(path)
    return match[1].lower() if match else None


def is_uri(path: str) -> bool:
    """Whether this is a URI, which no folder is put in front of.

    >>> is_uri("s3://bucket/prefix"), is_uri("data/clicks")
    (True, False)
    """
    return scheme_of(path) is not None


def absolute_location(path: str, base: Path | str) -> str:
    """A URI as it is; a relative path below ``base``.

    >>> absolute_location("clicks", "/data"), absolute_location("s3://bucket/clicks", "/data")
    ('/data/clicks', 's3://bucket/clicks')
    """
    return path if is_uri(path) else str(Path(base) / path)


def local_path(path: str) -> str | None:
    """The path that a local path or a ``file://`` URI means; None for other URIs."""
    scheme = scheme_of(path)
    if scheme == "file":
        return url2pathname(urlsplit(path).path)
    return path if scheme is None else None


def check_location(path: str) -> None:
    """
    Raises:
        ValueError: a URI contains a password or parameters.
    """
    if not is_uri(path):
        return
    if _PASSWORD_IN_URI.search(path):
        raise ValueError(f"path: a URI with a password is refused: {SECRETS_BELONG}")
    if "?" in path:
        raise ValueError("path: parameters after `?` are refused; write them into `options`")


def check_options(options: Mapping[str, Option]) -> None:
    """
    Raises:
        ValueError: an option carries a secret; the message names its key only.
    """
    for key, value in options.items():
        if _SECRET_KEY.search(key) or (isinstance(value, str) and _PASSWORD_IN_URI.search(value)):
            raise ValueError(f"key {key!r} carries a secret; {SECRETS_BELONG}")
