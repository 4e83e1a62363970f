"""The triggering policies: one import line each."""

from modyn.supervisor.triggers.amount import DataAmountTrigger
from modyn.supervisor.triggers.data_incorporation_cost import DataIncorporationLatencyCostTrigger
from modyn.supervisor.triggers.drift import DataDriftTrigger
from modyn.supervisor.triggers.ensemble import EnsembleTrigger
from modyn.supervisor.triggers.manual import ManualTrigger
from modyn.supervisor.triggers.misclassification_cost import AvoidableMisclassificationCostTrigger
from modyn.supervisor.triggers.performance import PerformanceTrigger
from modyn.supervisor.triggers.schedule import ScheduleTrigger
from modyn.supervisor.triggers.time import TimeTrigger

__all__ = [
    "AvoidableMisclassificationCostTrigger",
    "DataAmountTrigger",
    "DataDriftTrigger",
    "DataIncorporationLatencyCostTrigger",
    "EnsembleTrigger",
    "ManualTrigger",
    "PerformanceTrigger",
    "ScheduleTrigger",
    "TimeTrigger",
]
