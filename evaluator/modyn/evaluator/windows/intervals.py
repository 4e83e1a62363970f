"""Interval expressions relative to a stretch of time: ``[-2d; +2d]``, ``(-inf, +1y]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modyn.core.durations import SECONDS_PER_UNIT

EXPECTED = (
    "expected an interval such as '[-2d; +2d]', '(-inf, +1y]' or '[0; +1w)': a bracket, two bounds separated by "
    "',' or ';', a bracket; a bound is a number with one of s, m, h, d, w, y, or 0, or inf, with a sign if need be"
)

_BOUND = r"([+-]?)\s*(?:(\d+)\s*([smhdwy])|(0)|(inf))"
_PATTERN = re.compile(rf"([\[(])\s*{_BOUND}\s*[,;]\s*{_BOUND}\s*([\])])")

_BEFORE, _ZERO, _AFTER = -1, 0, 1


@dataclass(frozen=True)
class _Bound:
    """One end of an interval.

    Attributes:
        side: before the stretch (counted from its first second), after it (from its last), or a plain zero.
        seconds: distance, None for infinity.
    """

    side: int
    seconds: int | None

    @property
    def order(self) -> tuple[int, float]:
        """Sorts -inf < -n < -0 < 0 < +0 < +n < +inf."""
        distance = float("inf") if self.seconds is None else float(self.seconds)
        return self.side, self.side * distance

    def resolve(self, zero: int, first: int, last: int) -> int | None:
        if self.seconds is None:
            return None
        base = {_BEFORE: first, _ZERO: zero, _AFTER: last}[self.side]
        return base + self.side * self.seconds


@dataclass(frozen=True)
class IntervalExpression:
    """A parsed interval expression; see :func:`parse_interval`."""

    left: _Bound
    right: _Bound
    left_closed: bool
    right_closed: bool

    def around(self, first: int, last: int) -> tuple[int | None, int | None]:
        """The interval relative to a stretch of time, as [start, end); None for an open end.

        Args:
            first: first second of the stretch; a negative bound counts from here.
            last: last second of the stretch (inclusive); a positive bound counts from here. A zero without a sign
                is ``first`` on the left and ``last`` on the right.
        """
        start = self.left.resolve(first, first, last)
        last_second = self.right.resolve(last, first, last)
        if start is not None and not self.left_closed:
            start += 1
        if last_second is None:
            return start, None
        return start, last_second + 1 if self.right_closed else last_second


def parse_interval(text: str) -> IntervalExpression:
    """Reads an interval expression.

    Square brackets include the second a bound names, round ones move the bound one second inwards.

    >>> parse_interval("[-10s; +10s)").around(1000, 1000)
    (990, 1010)
    >>> parse_interval("(-inf, 0]").around(1000, 2000)
    (None, 2001)

    Raises:
        ValueError: the text is no interval, or its bounds are in the wrong order.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no interval; {EXPECTED}")
    opening, *bounds, closing = match.groups()
    left, right = _bound(bounds[:5]), _bound(bounds[5:])
    if left == _Bound(_AFTER, None):
        raise ValueError(f"{text!r} begins at +inf; expected a left bound before the end of time")
    if right == _Bound(_BEFORE, None):
        raise ValueError(f"{text!r} ends at -inf; expected a right bound after the beginning of time")
    if left.order > right.order:
        raise ValueError(f"{text!r} ends before it begins; expected the smaller bound on the left")
    return IntervalExpression(left, right, opening == "[", closing == "]")


def _bound(groups: list[str | None]) -> _Bound:
    sign, digits, unit, zero, infinity = groups
    side = {"-": _BEFORE, "+": _AFTER, "": _AFTER}[sign or ""]
    if infinity:
        return _Bound(side, None)
    seconds = 0 if zero or digits is None or unit is None else int(digits) * SECONDS_PER_UNIT[unit]
    if seconds == 0 and not sign:
        side = _ZERO
    return _Bound(side, seconds)
