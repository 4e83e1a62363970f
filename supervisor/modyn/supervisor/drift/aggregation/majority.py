"""More than half of the metrics have to agree."""

from __future__ import annotations

from collections.abc import Sequence

from modyn.core.plugins.drift import AGGREGATION_STRATEGIES, AggregationStrategy


@AGGREGATION_STRATEGIES.register("MajorityVote")
class MajorityVote(AggregationStrategy):
    """There is drift if more than half of the metrics say so.

    >>> MajorityVote().decide([True, False]), MajorityVote().decide([True, True, False])
    (False, True)
    """

    def decide(self, votes: Sequence[bool]) -> bool:
        return 2 * sum(votes) > len(votes)
