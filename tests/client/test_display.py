"""What is shown of a pipeline that runs, where there is no terminal."""

from __future__ import annotations

import io

import pytest

from modyn.client import display
from modyn.proto.supervisor_pb2 import PipelineEvent, TrainingStatus
from modyn.proto.trainer_server_pb2 import Telemetry


def test_a_training_is_shown_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    shown = display.LineDisplay(stream)
    status = TrainingStatus(trigger_index=2, queued=True)
    shown.handle(PipelineEvent(training=status))  # not every event is a line
    monkeypatch.setattr(display, "LINE_INTERVAL_SECONDS", 0.0)
    shown.handle(PipelineEvent(training=status))
    status = TrainingStatus(
        trigger_index=2, samples=1200, total_samples=5000, loss=0.25, telemetry=Telemetry(samples_per_second=1234.5)
    )
    shown.handle(PipelineEvent(training=status))
    status.done = True
    shown.handle(PipelineEvent(training=status))
    assert stream.getvalue().splitlines() == [
        "trigger 2: waits for a free device slot",
        "trigger 2: 1,200 of 5,000 sample passes, loss 0.2500, 1,234 samples/s",
        "trigger 2: trained, 1,200 sample passes, loss 0.2500",
    ]
