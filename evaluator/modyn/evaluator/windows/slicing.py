"""Windows one after the other."""

from __future__ import annotations

from pydantic import Field, model_validator

from modyn.core.durations import Duration
from modyn.core.plugins.evaluation import WINDOW_STRATEGIES, Window, WindowContext, WindowStrategy
from modyn.evaluator.windows.clipping import UnixSeconds, clipped, end_of, steps


@WINDOW_STRATEGIES.register("SlicingEvalStrategy")
class SlicingEvalStrategy(WindowStrategy):
    """Cut a span into windows of equal length; the last one is shortened to the end of the span.

    >>> strategy = SlicingEvalStrategy(eval_every="1m")
    >>> [(w.start, w.end) for w in strategy.windows(WindowContext(first_timestamp=0, last_timestamp=149))]
    [(0, 60), (60, 120), (120, 150)]
    """

    eval_every: Duration = Field(description="Length of a window.")
    eval_start_from: UnixSeconds | None = Field(
        None, description="Start of the first window, Unix seconds; by default the first timestamp of the data."
    )
    eval_end_at: UnixSeconds | None = Field(
        None, description="End of the last window (exclusive); by default one second after the last timestamp."
    )

    @model_validator(mode="after")
    def _in_order(self) -> SlicingEvalStrategy:
        start, end = self.eval_start_from, self.eval_end_at
        if start is not None and end is not None and end <= start:
            raise ValueError(f"eval_end_at {end} is not after eval_start_from {start}; expected a later time")
        return self

    def windows(self, context: WindowContext) -> list[Window]:
        begin, stop = context.first_timestamp, end_of(context)
        start = begin if self.eval_start_from is None else self.eval_start_from
        end = stop if self.eval_end_at is None else min(self.eval_end_at, stop)
        # Slices before the data would be dropped anyway; skipping them keeps the grid of `eval_start_from`.
        start += max(0, (begin - start) // self.eval_every) * self.eval_every
        candidates = (
            clipped(context, position, min(position + self.eval_every, end))
            for position in steps(start, end, self.eval_every, "eval_every")
        )
        return [w for w in candidates if w is not None]
