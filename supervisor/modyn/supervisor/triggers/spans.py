"""What simple triggers share: what they remember of the samples since the last firing, and how they search it."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from time import perf_counter
from typing import Self

from modyn.core.arrow import Int64Array
from modyn.core.plugins.triggers import Evaluation, Finding, TriggerState

FIRST_BLOCK = 1024
"""Samples looked at first when searching a boundary; doubled while nothing is found, so that a search costs
what it skips and not what it is given."""


class SpanState(TriggerState):
    """How many samples came since the last firing, and their smallest and largest event time, Unix seconds."""

    pending: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None

    def after(self, timestamps: Int64Array) -> Self:
        """The state once some more samples were seen."""
        if not len(timestamps):
            return self
        first, last = int(timestamps.min()), int(timestamps.max())
        update = {
            "pending": self.pending + len(timestamps),
            "first_timestamp": first if self.first_timestamp is None else min(self.first_timestamp, first),
            "last_timestamp": last if self.last_timestamp is None else max(self.last_timestamp, last),
        }
        return self.model_copy(update=update)

    def fired(self, reason: str, findings: tuple[Finding, ...], started: float) -> Evaluation:
        """The evaluation of a firing that takes the pending samples, at least one.

        Args:
            started: when the evaluation began, by ``time.perf_counter``.
        """
        assert self.first_timestamp is not None, "there are pending samples"
        assert self.last_timestamp is not None, "there are pending samples"
        return Evaluation(
            self.first_timestamp,
            self.last_timestamp,
            self.pending,
            decision=True,
            reason=reason,
            findings=findings,
            seconds=perf_counter() - started,
        )


def first_at_or_after(clock: Int64Array, boundary: int) -> int | None:
    """Position of the first time >= ``boundary`` in a column that need not be sorted; None if there is none."""
    start, size = 0, FIRST_BLOCK
    while start < len(clock):
        reached = clock[start : start + size] >= boundary
        offset = int(reached.argmax())
        if reached[offset]:
            return start + offset
        start += size
        size *= 2
    return None


def moment_text(seconds: int, zone: tzinfo = UTC) -> str:
    """Date and time of Unix seconds for people; the number itself if no calendar knows it, such as milliseconds taken
    for seconds."""
    try:
        return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
