"""Durations as users write them: ``30s 5m 1h 1d 2w 1y`` (a year has 365 days)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}

_PATTERN = re.compile(r"^(\d+)([smhdwy])$")


def parse_duration(text: str) -> int:
    """Seconds of a duration such as ``"1d"``.

    >>> parse_duration("2h")
    7200

    Raises:
        ValueError: the text is no positive whole number followed by one of s, m, h, d, w, y.
    """
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError("expected a duration such as 30s, 5m, 1h, 1d, 2w or 1y")
    return int(match.group(1)) * SECONDS_PER_UNIT[match.group(2)]


def format_duration(seconds: int) -> str:
    """The shortest way to write a number of seconds.

    >>> format_duration(604800)
    '1w'
    """
    for unit in ("y", "w", "d", "h", "m"):
        if seconds and seconds % SECONDS_PER_UNIT[unit] == 0:
            return f"{seconds // SECONDS_PER_UNIT[unit]}{unit}"
    return f"{seconds}s"


def _validate(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("expected a duration such as 30s, 5m, 1h, 1d, 2w or 1y")
    seconds = value if isinstance(value, int) else parse_duration(value.strip())
    if seconds <= 0:
        raise ValueError("expected a duration longer than zero")
    return seconds


Duration = Annotated[
    int,
    BeforeValidator(_validate),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+[smhdwy]$", "examples": ["30s", "1h", "1d", "2w"]}),
]
"""A positive number of seconds, written as a duration in YAML."""
