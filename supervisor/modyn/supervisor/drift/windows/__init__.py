"""Which samples are compared: one import line for each strategy."""

from modyn.supervisor.drift.windows.amount import AmountWindowingStrategy
from modyn.supervisor.drift.windows.time import TimeWindowingStrategy

__all__ = ["AmountWindowingStrategy", "TimeWindowingStrategy"]
