"""Globs over relative paths with forward slashes."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def glob_regex(pattern: str) -> re.Pattern[str]:
    """A regular expression for a glob, to be used with ``fullmatch``.

    ``*`` and ``?`` stay within a folder, ``**/`` crosses any number of them, ``[abc]`` and ``[!abc]`` are one
    character, ``{a,b}`` is one of several globs (not nested).

    Raises:
        ValueError: the glob makes no sense.
    """
    try:
        return re.compile(glob_source(pattern), re.DOTALL)
    except re.error as error:
        raise ValueError(f"glob {pattern!r} cannot be used: {error}") from error


def glob_source(pattern: str) -> str:
    """The text of that regular expression."""
    out = []
    position = 0
    while position < len(pattern):
        piece, position = _next(pattern, position)
        out.append(piece)
    return "".join(out)


_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}  # the longest first


def _next(pattern: str, position: int) -> tuple[str, int]:
    """The regular expression of what stands at a position, and where the next thing starts."""
    for wildcard, source in _WILDCARDS.items():
        if pattern.startswith(wildcard, position):
            return source, position + len(wildcard)
    character = pattern[position]
    if character == "[" and (end := pattern.find("]", position + 2)) > 0:
        body = pattern[position + 1 : end].replace("\\", "\\\\")
        return (f"[^{body[1:]}]" if body[0] == "!" else f"[{body}]"), end + 1
    if character == "{" and "," in pattern[position : (end := pattern.find("}", position)) + 1]:
        choices = pattern[position + 1 : end].split(",")
        return f"(?:{'|'.join(map(glob_source, choices))})", end + 1
    return re.escape(character), position + 1
