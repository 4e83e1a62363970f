"""So many metrics have to agree."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import AGGREGATION_STRATEGIES, AggregationStrategy


@AGGREGATION_STRATEGIES.register("AtLeastN")
class AtLeastN(AggregationStrategy):
    """There is drift if at least ``n`` metrics say so.

    >>> AtLeastN(n=2).decide([False, True, False]), AtLeastN(n=2).decide([True, True, False])
    (False, True)
    """

    n: PositiveInt = Field(description="Metrics that have to agree.")

    def decide(self, votes: Sequence[bool]) -> bool:
        return sum(votes) >= self.n

    def check(self, num_voters: int) -> None:
        if self.n > num_voters:
            raise ValueError(f"n is {self.n}, but there are only {num_voters} metrics; expected at most {num_voters}")
