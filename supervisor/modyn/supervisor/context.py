"""What the parts of one running pipeline share."""

from __future__ import annotations

from dataclasses import dataclass, field

from modyn.core.config.pipeline import PipelineConfig
from modyn.core.peers import Peers
from modyn.supervisor.calls import StopSignal
from modyn.supervisor.events import EventLog
from modyn.supervisor.journal import Journal
from modyn.supervisor.options import RunOptions
from modyn.supervisor.trainer_servers import TrainerServers


@dataclass(frozen=True)
class RunContext:
    """One pipeline and how it is run."""

    pipeline_id: int
    config: PipelineConfig
    options: RunOptions
    peers: Peers
    journal: Journal
    trainers: TrainerServers
    events: EventLog = field(default_factory=EventLog)
    stop: StopSignal = field(default_factory=StopSignal)
