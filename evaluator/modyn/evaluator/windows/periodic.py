"""Windows around points in time."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from modyn.core.durations import Duration
from modyn.core.plugins.evaluation import WINDOW_STRATEGIES, Window, WindowContext, WindowStrategy
from modyn.evaluator.windows.clipping import UnixSeconds, clipped, end_of, steps
from modyn.evaluator.windows.intervals import parse_interval


@WINDOW_STRATEGIES.register("PeriodicEvalStrategy")
class PeriodicEvalStrategy(WindowStrategy):
    """A window around every ``every``-th moment t; t itself decides which model is active.

    Windows may overlap. ``interval`` says how far a window reaches before and after t: ``[-1d; +1d]`` includes
    both ends, so it is [t - 1d, t + 1d + 1 s) in Unix seconds; a round bracket moves its end one second inwards.
    A window outside the data is left out.

    >>> strategy = PeriodicEvalStrategy(every="1m", interval="[-10s; +9s]")
    >>> windows = strategy.windows(WindowContext(first_timestamp=0, last_timestamp=100))
    >>> [(w.start, w.end, w.anchor) for w in windows]
    [(0, 10, 0), (50, 70, 60)]
    """

    every: Duration = Field(description="Pause between two moments.")
    interval: str = Field(
        description="Reach of a window around its moment, such as '[-2d; +2d]', '(-inf, +1y]' or '[0; +1w)'.",
        examples=["[-2d; +2d]", "(-inf, +1y]"],
    )
    start_timestamp: UnixSeconds | None = Field(
        None, description="First moment, Unix seconds; by default the first timestamp of the data."
    )
    end_timestamp: UnixSeconds | None = Field(
        None, description="No moment after this one (inclusive); by default the last timestamp of the data."
    )

    @field_validator("interval")
    @classmethod
    def _readable(cls, text: str) -> str:
        start, end = parse_interval(text).around(0, 0)
        if start is not None and end is not None and end <= start:
            raise ValueError(f"{text!r} holds no second; expected a wider interval or square brackets")
        return text

    @model_validator(mode="after")
    def _in_order(self) -> PeriodicEvalStrategy:
        start, end = self.start_timestamp, self.end_timestamp
        if start is not None and end is not None and end < start:
            raise ValueError(f"end_timestamp {end} is before start_timestamp {start}; expected a later time")
        return self

    def windows(self, context: WindowContext) -> list[Window]:
        interval = parse_interval(self.interval)
        start = context.first_timestamp if self.start_timestamp is None else self.start_timestamp
        end = context.last_timestamp if self.end_timestamp is None else self.end_timestamp
        # Moments too far from the data for a window to reach them are skipped; the others keep their grid.
        reach_before, reach_after = interval.around(0, 0)
        if reach_after is not None:
            start += max(0, (context.first_timestamp - reach_after - start) // self.every) * self.every
        if reach_before is not None:
            end = min(end, end_of(context) - reach_before)
        candidates = (
            clipped(context, *interval.around(moment, moment), anchor=moment)
            for moment in steps(start, end + 1, self.every, "every")
        )
        return [w for w in candidates if w is not None]
