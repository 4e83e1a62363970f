"""One metric is enough."""

from __future__ import annotations

from collections.abc import Sequence

from modyn.core.plugins.drift import AGGREGATION_STRATEGIES, AggregationStrategy


@AGGREGATION_STRATEGIES.register("Any")
class AnyVote(AggregationStrategy):
    """There is drift if one metric says so. False alarms of the metrics add up: divide ``alpha`` by their number.

    >>> AnyVote().decide([False, True, False])
    True
    """

    def decide(self, votes: Sequence[bool]) -> bool:
        return any(votes)
