"""What a person sees while a pipeline runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from modyn.client.options import format_time
from modyn.proto.supervisor_pb2 import (
    DataStatus,
    EvaluationStatus,
    IngestStatus,
    Pipeline,
    PipelineEvent,
    TrainingStatus,
    TriggerStatus,
)

LINE_INTERVAL_SECONDS = 5.0
"""Without a terminal, progress within a stage is printed at most this often."""


class Display(ABC):
    """Shows events of one pipeline; a context manager.

    Attributes:
        shows_triggers: say when a trigger fires.
    """

    shows_triggers = True

    def handle(self, event: PipelineEvent) -> None:
        """Shows one event."""
        match event.WhichOneof("kind"):
            case "ingest":
                self.ingest(event.ingest)
            case "data":
                self.data(event.data)
            case "trigger":
                self.trigger(event.trigger)
            case "training":
                self.training(event.training)
            case "evaluation":
                self.evaluation(event.evaluation)
            case "notice":
                self.say(f"notice: {event.notice}")
            case "pipeline":
                self.status(event.pipeline)

    @abstractmethod
    def say(self, line: str) -> None:
        """Shows one line; safe from any thread."""

    @abstractmethod
    def ingest(self, status: IngestStatus) -> None: ...

    @abstractmethod
    def data(self, status: DataStatus) -> None: ...

    @abstractmethod
    def training(self, status: TrainingStatus) -> None: ...

    @abstractmethod
    def evaluation(self, status: EvaluationStatus) -> None: ...

    def trigger(self, status: TriggerStatus) -> None:
        if self.shows_triggers and not status.done and not status.HasField("num_selected"):
            count = "" if "new samples" in status.reason else f", {status.num_new:,} new samples"
            self.say(f"trigger {status.index} at {format_time(status.timestamp)}: {status.reason}{count}")

    def status(self, pipeline: Pipeline) -> None:
        name = Pipeline.Status.Name(pipeline.status).lower()
        if pipeline.status not in (Pipeline.RUNNING, Pipeline.FAILED):  # an error is shown once, at the end
            self.say(f"pipeline {pipeline.id} ({pipeline.name}): {name}")

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None


class LineDisplay(Display):
    """One line per thing that happened, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = dict.fromkeys(("ingest", "data", "training", "evaluation"), time.monotonic())
        self._ingested = False

    def say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def ingest(self, status: IngestStatus) -> None:
        if status.files_total == 0:  # nothing new
            return
        done = status.files_done >= status.files_total > 0
        if (done and not self._ingested) or self._due("ingest"):
            self._ingested = done
            self.say(f"ingest: {status.files_done:,} of {status.files_total:,} files, {status.samples:,} samples")

    def data(self, status: DataStatus) -> None:
        if self._due("data"):
            total = f" of {status.samples_total:,}" if status.HasField("samples_total") else ""
            self.say(f"data: {status.samples_seen:,}{total} samples seen, up to {format_time(_clock(status))}")

    def training(self, status: TrainingStatus) -> None:
        if status.done:
            loss = f", loss {status.loss:.4f}" if status.HasField("loss") else ""
            how = "reused an earlier training" if status.reused else "trained"
            self.say(f"trigger {status.trigger_index}: {how}, {status.samples:,} sample passes{loss}")
        elif (status.samples or status.queued) and self._due("training"):
            self.say(_training(status))

    def evaluation(self, status: EvaluationStatus) -> None:
        if status.done:
            self.say(f"evaluated {status.handler} on {status.dataset}: {status.predictions:,} predictions")
        elif self._due("evaluation"):
            self.say(f"evaluating {status.handler}: {status.predictions:,} of {status.total:,} predictions")

    def _due(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._last[what] < LINE_INTERVAL_SECONDS:
            return False
        self._last[what] = now
        return True


class BarDisplay(Display):
    """Four bars (ingest, data, training, evaluation) with lines scrolling above them."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._progress.console.print(escape(line), highlight=False)

    def ingest(self, status: IngestStatus) -> None:
        if status.files_total == 0:  # nothing new
            return
        text = f"{status.files_done:,}/{status.files_total:,} files, {status.samples:,} samples"
        self._show("ingest", status.files_done, status.files_total, text)

    def data(self, status: DataStatus) -> None:
        total = status.samples_total if status.HasField("samples_total") else None
        seen = f"{status.samples_seen:,}" + (f"/{total:,}" if total is not None else "")
        self._show("data", status.samples_seen, total, f"{seen} samples, {format_time(_clock(status))}")

    def training(self, status: TrainingStatus) -> None:
        self._show("training", status.samples, status.total_samples or None, _training(status))

    def evaluation(self, status: EvaluationStatus) -> None:
        text = f"{status.handler}: {status.predictions:,}/{status.total:,} predictions"
        self._show("evaluation", status.predictions, status.total or None, text)

    def _show(self, name: str, completed: int, total: int | None, text: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, text=text)
        self._progress.update(self._tasks[name], completed=completed, total=total, text=text)


class NoDisplay(Display):
    """Shows nothing."""

    def say(self, line: str) -> None:
        pass

    def ingest(self, status: IngestStatus) -> None:
        pass

    def data(self, status: DataStatus) -> None:
        pass

    def training(self, status: TrainingStatus) -> None:
        pass

    def evaluation(self, status: EvaluationStatus) -> None:
        pass


def display_for(stream: TextIO, *, triggers: bool = True, quiet: bool = False) -> Display:
    """Bars if the stream is a terminal.

    Args:
        stream: such as standard error.
        triggers: say when a trigger fires.
        quiet: show nothing.
    """
    if quiet:
        return NoDisplay()
    console = Console(file=stream)
    bars = console.is_terminal and not console.is_dumb_terminal
    display: Display = BarDisplay(console) if bars else LineDisplay(stream)
    display.shows_triggers = triggers
    return display


def _training(status: TrainingStatus) -> str:
    """Where a training stands."""
    trigger = f"trigger {status.trigger_index}"
    if status.queued:
        return f"{trigger}: waits for a free device slot"
    if status.reused:
        return f"{trigger}: reused an earlier training"
    loss = f", loss {status.loss:.4f}" if status.HasField("loss") else ""
    speed = f", {status.telemetry.samples_per_second:,.0f} samples/s" if status.HasField("telemetry") else ""
    return f"{trigger}: {status.samples:,} of {status.total_samples:,} sample passes{loss}{speed}"


def _clock(status: DataStatus) -> int | None:
    return status.data_clock if status.HasField("data_clock") else None
