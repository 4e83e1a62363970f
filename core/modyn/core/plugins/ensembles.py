"""Ensembles of triggers: how many of them have to agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import Field, PositiveInt

from modyn.core.registry import Plugin, Registry


class EnsembleStrategy(Plugin, ABC):
    """Counts the votes of subtriggers."""

    @abstractmethod
    def agrees(self, votes: Mapping[str, bool]) -> bool:
        """Whether the ensemble fires.

        Args:
            votes: of every subtrigger, whether it has fired since the ensemble last did; at least one has.
        """

    def needed(self, count: int) -> int | None:
        """How many votes of ``count`` subtriggers make the ensemble fire, for explanations and checks; None if that
        depends on whose they are."""
        return None


ENSEMBLE_STRATEGIES: Registry[EnsembleStrategy] = Registry(
    "ensemble strategy", key="id", package="modyn.core.plugins.ensembles", group="modyn.ensemble_strategies"
)


class CountingStrategy(EnsembleStrategy, ABC):
    """Fires on a number of votes, whosever they are."""

    @abstractmethod
    def needed(self, count: int) -> int: ...

    def agrees(self, votes: Mapping[str, bool]) -> bool:
        return sum(votes.values()) >= self.needed(len(votes))


@ENSEMBLE_STRATEGIES.register("MajorityVote")
class MajorityVote(CountingStrategy):
    """More than half of the subtriggers.

    >>> [MajorityVote().needed(count) for count in (1, 2, 3, 4)]
    [1, 2, 2, 3]
    """

    def needed(self, count: int) -> int:
        return count // 2 + 1


@ENSEMBLE_STRATEGIES.register("AtLeastN")
class AtLeastN(CountingStrategy):
    """At least ``n`` subtriggers.

    >>> AtLeastN(n=2).agrees({"daily": True, "drift": False, "amount": True})
    True
    """

    n: PositiveInt = Field(description="How many subtriggers have to have fired.")

    def needed(self, count: int) -> int:
        return self.n


@ENSEMBLE_STRATEGIES.register("All")
class All(CountingStrategy):
    """Every subtrigger.

    >>> All().agrees({"daily": True, "drift": False})
    False
    """

    def needed(self, count: int) -> int:
        return count


@ENSEMBLE_STRATEGIES.register("Any")
class Any(CountingStrategy):
    """One subtrigger is enough.

    >>> Any().agrees({"daily": True, "drift": False})
    True
    """

    def needed(self, count: int) -> int:
        return 1
