"""What all window strategies share: windows end where the data end."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Window, WindowContext

MAX_WINDOWS = 100_000
"""More windows than this are taken for a mistake, such as ``every: 1s`` over years."""

LAST_SECOND = 2**63 - 1
"""No window reaches beyond, for its exclusive end has to be an int64 as well."""

UnixSeconds = Annotated[int, Field(ge=-(2**63), le=LAST_SECOND)]
"""A moment in YAML; negative before 1970, as timestamps of samples may be."""


def clipped(
    context: WindowContext,
    start: int | None,
    end: int | None,
    anchor: int | None = None,
    *,
    trigger_index: int | None = None,
    offset: str = "",
) -> Window | None:
    """The part of [start, end) that lies within the data, or None if there is none.

    Args:
        context: says where the data begin and end.
        start: first second, or None for the beginning of the data.
        end: first second after it, or None for the end of the data.
        anchor: the moment the window stands for; its clipped start by default.
        trigger_index: the only trigger whose model the window is about; None: all of them.
        offset: how it lies to that trigger's data.
    """
    begin, stop = context.first_timestamp, end_of(context)
    start = begin if start is None else max(start, begin)
    end = stop if end is None else min(end, stop)
    if end <= start:
        return None
    return Window(start, end, start if anchor is None else anchor, trigger_index, offset)


def end_of(context: WindowContext) -> int:
    """The first second after the data."""
    return min(context.last_timestamp + 1, LAST_SECOND)


def steps(start: int, end: int, every: int, key: str) -> range:
    """``start, start + every, …`` below ``end``.

    Raises:
        InvalidInputError: there are more than :data:`MAX_WINDOWS`.
    """
    count = max(0, -((start - end) // every))  # rounded up; a range of more than 2**63 has no len
    if count > MAX_WINDOWS:
        raise InvalidInputError(
            f"{key}: {every} s cuts [{start}, {end}) into {count:,} windows; "
            f"expected at most {MAX_WINDOWS:,}, so choose a longer step or a shorter span"
        )
    return range(start, end, every)
