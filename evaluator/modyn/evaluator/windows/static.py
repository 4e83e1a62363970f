"""Windows as listed."""

from __future__ import annotations

from pydantic import Field, field_validator

from modyn.core.plugins.evaluation import WINDOW_STRATEGIES, Window, WindowContext, WindowStrategy
from modyn.evaluator.windows.clipping import UnixSeconds, clipped


@WINDOW_STRATEGIES.register("StaticEvalStrategy")
class StaticEvalStrategy(WindowStrategy):
    """The windows of a list; ``null`` as the end means up to the end of the data. Equal windows count once.

    >>> strategy = StaticEvalStrategy(intervals=[(0, 100), (100, None)])
    >>> [(w.start, w.end) for w in strategy.windows(WindowContext(first_timestamp=50, last_timestamp=149))]
    [(50, 100), (100, 150)]
    """

    intervals: list[tuple[UnixSeconds, UnixSeconds | None]] = Field(
        min_length=1, description="Pairs [start, end) in Unix seconds; end may be null."
    )

    @field_validator("intervals")
    @classmethod
    def _not_empty(cls, intervals: list[tuple[int, int | None]]) -> list[tuple[int, int | None]]:
        for start, end in intervals:
            if end is not None and end <= start:
                raise ValueError(f"[{start}, {end}] ends before it begins; expected start < end (the end is exclusive)")
        return intervals

    def windows(self, context: WindowContext) -> list[Window]:
        candidates = {clipped(context, start, end) for start, end in self.intervals}
        return sorted((w for w in candidates if w is not None), key=lambda w: (w.start, w.end))
