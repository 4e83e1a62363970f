"""Training on the last samples, by number or by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema

from modyn.core.durations import SECONDS_PER_UNIT, format_duration, parse_duration
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SELECTION_POLICIES, Selection, SelectionInput, TriggerData
from modyn.selector.ages import timestamps_of
from modyn.selector.policies.base import LimitedPolicy
from modyn.selector.sampling import last, take


def _window(value: Any) -> int | str:
    expected = "expected a number of samples, at least 1, or a duration such as 12h, 30d or 1y"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(expected)
    try:
        size = value if isinstance(value, int) else parse_duration(value.strip())
    except ValueError as error:
        raise ValueError(expected) from error
    if size <= 0:
        raise ValueError(expected)
    return size if isinstance(value, int) else format_duration(size)


Window = Annotated[
    int | str,
    BeforeValidator(_window),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": rf"^\d+[{''.join(SECONDS_PER_UNIT)}]$", "examples": ["12h", "30d"]},
            ]
        }
    ),
]
"""A number of samples, or a duration."""


@SELECTION_POLICIES.register("SlidingWindowStrategy")
class SlidingWindowStrategy(LimitedPolicy):
    """Train on the last samples, however many triggers they came in, up to a limit.

    The window is a number of samples, in the order in which the pipeline saw them, or a duration of event time that
    ends with the newest sample so far: samples that are as old as the window or older are not in it. Above the limit, a
    uniform sample without replacement of the window is taken.

    >>> SlidingWindowStrategy(window="48h").window
    '2d'
    """

    window: Window = Field(description="How far back: a number of samples, or a duration of event time such as 30d.")

    def select(self, data: SelectionInput) -> Selection:
        keys = _last_samples(data.history, self.window) if isinstance(self.window, int) else self._by_time(data)
        return Selection(self.sample(data, keys, self.limited(len(keys))))

    def _by_time(self, data: SelectionInput) -> KeySet:
        keys = KeySet.concat(entry.keys for entry in data.history)  # late samples may be anywhere
        times = timestamps_of(data.columns, keys)
        if len(times) == 0:
            return keys
        inside = times > int(times.max()) - parse_duration(str(self.window))
        return keys if inside.all() else take(keys, np.flatnonzero(inside))


def _last_samples(history: Sequence[TriggerData], count: int) -> KeySet:
    """The last samples, loading no more than about twice the triggers that they came in."""
    parts: list[KeySet] = []
    first, step = len(history), 1
    while first > 0 and sum(map(len, parts)) < count:
        start = max(0, first - step)
        parts = [*(entry.keys for entry in history[start:first]), *parts]
        first, step = start, 2 * step
    return last(KeySet.concat(parts), count)
