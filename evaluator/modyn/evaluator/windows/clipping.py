"""What all window strategies share: windows end where the data end."""

from __future__ import annotations

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Window, WindowContext

MAX_WINDOWS = 100_000
"""More windows than this are taken for a mistake, such as ``every: 1s`` over years."""


def clipped(context: WindowContext, start: int | None, end: int | None, anchor: int | None = None) -> Window | None:
    """The part of [start, end) that lies within the data, or None if there is none.

    Args:
        context: says where the data begin and end.
        start: first second, or None for the beginning of the data.
        end: first second after it, or None for the end of the data.
        anchor: the moment the window stands for; its clipped start by default.
    """
    begin, stop = context.first_timestamp, context.last_timestamp + 1
    start = begin if start is None else max(start, begin)
    end = stop if end is None else min(end, stop)
    if end <= start:
        return None
    return Window(start, end, start if anchor is None else anchor)


def steps(start: int, end: int, every: int, key: str) -> range:
    """``start, start + every, …`` below ``end``.

    Raises:
        InvalidInputError: there are more than :data:`MAX_WINDOWS`.
    """
    positions = range(start, end, every)
    if len(positions) > MAX_WINDOWS:
        raise InvalidInputError(
            f"{key}: {every} s cuts [{start}, {end}) into {len(positions):,} windows; "
            f"expected at most {MAX_WINDOWS:,}, so choose a longer step or a shorter span"
        )
    return positions
