"""How the decisions of several metrics are counted: one import line for each strategy."""

from modyn.supervisor.drift.aggregation.any import AnyVote
from modyn.supervisor.drift.aggregation.at_least import AtLeastN
from modyn.supervisor.drift.aggregation.majority import MajorityVote

__all__ = ["AnyVote", "AtLeastN", "MajorityVote"]
