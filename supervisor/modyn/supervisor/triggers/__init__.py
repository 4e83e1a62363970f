"""The triggering policies: one import line each."""

from modyn.supervisor.triggers.amount import DataAmountTrigger
from modyn.supervisor.triggers.time import TimeTrigger

__all__ = ["DataAmountTrigger", "TimeTrigger"]
