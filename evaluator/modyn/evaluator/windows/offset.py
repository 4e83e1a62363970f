"""Windows before and after the data that a model was trained on."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from modyn.core.config.problems import relation_error
from modyn.core.durations import SECONDS_PER_UNIT
from modyn.core.plugins.evaluation import WINDOW_STRATEGIES, TrainedInterval, Window, WindowContext, WindowStrategy
from modyn.evaluator.windows.clipping import clipped

_PATTERN = re.compile(r"([+-]?)\s*(?:(\d+)([smhdwy])|(0)|(inf))")
_INFINITY = float("inf")


def _check_offset(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else "0" if value == 0 and not isinstance(value, bool) else ""
    if _PATTERN.fullmatch(text) is None:
        raise ValueError("expected a signed duration such as +1w or -2d, or 0, inf or -inf")
    return text


Offset: TypeAlias = Annotated[
    str,
    BeforeValidator(_check_offset),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": rf"^\s*{_PATTERN.pattern}\s*$"}, {"const": 0}],
            "examples": ["-inf", "-1d", "0", "+1w", "inf"],
        }
    ),
]


@WINDOW_STRATEGIES.register("OffsetEvalStrategy")
class OffsetEvalStrategy(WindowStrategy):
    """Windows that lie before or after the data of each trigger, scored with the model of that trigger alone: how it
    does on what it has learned, on what came before, and how it ages.

    | offset | window of a trigger whose new data are from ``first`` to ``last`` |
    | --- | --- |
    | ``-inf`` | from the beginning of the data up to ``first`` (exclusive) |
    | ``-2d`` | the two days before ``first`` |
    | ``0`` | its new data |
    | ``+1w`` | the week after ``last`` |
    | ``inf`` | everything after ``last`` |

    ``last`` is the latest second of all data up to the trigger, so no training set reaches beyond it.

    >>> from modyn.core.plugins.evaluation import TrainedInterval
    >>> strategy = OffsetEvalStrategy(offsets=["-inf", 0, "+1m"])
    >>> windows = strategy.windows(WindowContext(0, 999, triggers=[TrainedInterval(0, 100, 199)]))
    >>> [(w.start, w.end, w.trigger_index, w.offset) for w in windows]
    [(0, 100, 0, '-inf'), (100, 200, 0, '0'), (200, 260, 0, '+1m')]
    """

    belongs_to_models = True

    offsets: list[Offset] = Field(
        min_length=1,
        description="Signed durations (negative: before the trigger's data, positive: after), 0, inf and -inf.",
        examples=[["-inf", "0", "+1d", "+1w"]],
    )

    @field_validator("offsets")
    @classmethod
    def _check_meanings_differ(cls, offsets: list[str]) -> list[str]:
        meanings = [_seconds(text) for text in offsets]
        repeated = [(i, meanings.index(meaning)) for i, meaning in enumerate(meanings) if meaning in meanings[:i]]
        if repeated:
            raise relation_error(
                ((i,), f"value {offsets[i]!r} means the same as {offsets[j]!r}; keep one") for i, j in repeated
            )
        return offsets

    def windows(self, context: WindowContext) -> list[Window]:
        found = [
            clipped(context, *_span(trigger, _seconds(text)), trigger_index=trigger.trigger_index, offset=text)
            for trigger in context.triggers
            for text in self.offsets
        ]
        return sorted((window for window in found if window is not None), key=lambda w: (w.start, w.end))


def _seconds(text: str) -> float:
    match = _PATTERN.fullmatch(text)
    assert match is not None, "checked with the configuration"
    sign, digits, unit, _, infinity = match.groups()
    distance = _INFINITY if infinity else int(digits) * SECONDS_PER_UNIT[unit] if digits else 0
    return -distance if sign == "-" else distance


def _span(trigger: TrainedInterval, seconds: float) -> tuple[int | None, int | None]:
    """[start, end), None for the beginning and the end of the data."""
    first, after = trigger.first_timestamp, trigger.last_timestamp + 1
    if seconds == 0:
        return first, after
    if seconds < 0:
        return None if seconds == -_INFINITY else first + int(seconds), first
    return after, None if seconds == _INFINITY else after + int(seconds)
