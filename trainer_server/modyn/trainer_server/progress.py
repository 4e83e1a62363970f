"""Events of a running training, at a rate that costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from modyn.core.errors import JobFailedError
from modyn.proto.trainer_server_pb2 import (
    FirstBatch,
    Telemetry,
    TrainEvent,
    TrainProgress,
    TrainResumed,
    TrainStarted,
)
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.telemetry import (
    Float64Array,
    GpuMeter,
    Int64Array,
    LossCurve,
    Stopwatch,
    added,
    synchroniser,
)

INTERVAL_SECONDS = 0.1

Emit = Callable[[bytes], None]


class Reading(Protocol):
    """Says what reading samples took."""

    @property
    def parse_seconds(self) -> float:
        """Parsing in the thread that trains."""

    @property
    def bytes_read(self) -> int:
        """Payload that came from storage."""


class Progress:
    """Counts batches, samples and losses of a training, and reports them.

    Losses are collected unread, because reading one waits for a GPU; they are read when something is reported.

    Args:
        emit: takes serialised events.
        record_every: also report after every so many batches; 0: only at intervals.
        device: that is trained on; None: a CPU.
        accurate: whether to wait for a GPU before each look at the clock.
        loss_of: whose loss it is, for messages.
    """

    def __init__(
        self,
        emit: Emit,
        record_every: int = 0,
        *,
        device: torch.device | None = None,
        accurate: bool = False,
        loss_of: str = "",
    ) -> None:
        self._emit = emit
        self._record_every = record_every
        self._loss_of = loss_of
        self._gpu = GpuMeter(device)
        self._curve = LossCurve()
        self._started: float | None = None
        self._earlier_seconds = 0.0
        self._last_report = time.monotonic()
        self._unread: list[tuple[torch.Tensor, int]] = []
        self._unreported = _Mean()
        self._epoch = _Mean()
        self.samples = 0
        self.batches = 0
        self.epoch_losses: list[float] = []
        self.resumed_batches = 0
        """Trained before this process was started."""
        self.watch = Stopwatch(None if device is None else synchroniser(device, accurate))
        self._bytes_read = 0
        self._reading: Reading | None = None
        self._counted = (0.0, 0)
        """What of it was counted: seconds of parsing, bytes."""

    def started(self, schedule: Schedule) -> None:
        self._send(
            TrainEvent(
                started=TrainStarted(
                    samples_per_epoch=schedule.samples_per_epoch,
                    epochs=schedule.epochs,
                    total_samples=schedule.total_samples,
                )
            )
        )

    def first_batch(self, *, after_seconds: float = 0.0) -> None:
        """The first batch is about to be trained; choosing it took so long, which counts as training."""
        self._started = time.perf_counter() - after_seconds
        self._send(TrainEvent(first_batch=FirstBatch(unix_time=time.time() - after_seconds)))

    def reads(self, reading: Reading) -> None:
        """Where the samples come from; what waiting for them was parsing is counted as such."""
        self._reading = reading

    @property
    def begun(self) -> bool:
        """Whether the first batch was there."""
        return self._started is not None

    @property
    def train_seconds(self) -> float:
        """From the first batch on, with all that choosing samples took; also before the training was resumed."""
        now = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._earlier_seconds + now

    def notice(self, text: str) -> None:
        self._send(TrainEvent(notice=text))

    def batch_done(self, loss: torch.Tensor, count: int) -> None:
        """Counts one trained batch of ``count`` samples with its loss (a scalar without gradients).

        Raises:
            JobFailedError: a loss was not finite (found when losses are read).
        """
        self.batches += 1
        self.samples += count
        self._unread.append((loss, count))
        due = self._record_every and self.batches % self._record_every == 0
        if due or time.monotonic() - self._last_report >= INTERVAL_SECONDS:
            self.report()

    def epoch_done(self) -> float:
        """Ends an epoch; its mean loss over samples."""
        self._read()
        self.epoch_losses.append(self._epoch.value())
        self._epoch = _Mean()
        return self.epoch_losses[-1]

    def report(self) -> None:
        """Sends what was not reported yet."""
        self._read()
        loss = self._unreported.value() if self._unreported.count else None
        epoch = len(self.epoch_losses)
        self._gpu.sample()
        self._send(
            TrainEvent(
                progress=TrainProgress(
                    epoch=epoch,
                    samples=self.samples,
                    batches=self.batches,
                    loss=loss,
                    telemetry=self.telemetry(),
                )
            )
        )
        self._unreported = _Mean()
        self._last_report = time.monotonic()

    def telemetry(self, *, curve: bool = False) -> Telemetry:
        """Where the time went so far.

        Args:
            curve: with the losses of the whole training.
        """
        self._count_reading()
        telemetry = self.watch.report()
        if (seconds := self.train_seconds) > 0:
            telemetry.samples_per_second = self.samples / seconds
        telemetry.bytes_read = self._bytes_read
        self._gpu.report(telemetry)
        if curve:
            self._read()
            telemetry.losses.extend(self._curve.points())
        return telemetry

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        self._read()
        self._count_reading()
        return {
            "samples": self.samples,
            "batches": self.batches,
            "epoch_losses": list(self.epoch_losses),
            "epoch": self._epoch.state(),
            "curve": self._curve.state(),
            "seconds": self.watch.state(),
            "train_seconds": self.train_seconds,
            "bytes_read": self._bytes_read,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self.samples, self.batches = state["samples"], state["batches"]
        self.epoch_losses = list(state["epoch_losses"])
        self._epoch.resume(state["epoch"])
        self._curve.resume(state["curve"])
        self.watch.resume(state["seconds"])
        self._earlier_seconds = state["train_seconds"]
        self._bytes_read = state["bytes_read"]
        self.resumed_batches = self.batches
        resumed = TrainResumed(batches=self.batches, samples=self.samples, epoch=len(self.epoch_losses))
        self._send(TrainEvent(resumed=resumed))

    def _count_reading(self) -> None:
        if self._reading is None:
            return
        parsed, read = self._counted
        self._counted = self._reading.parse_seconds, self._reading.bytes_read
        self.watch.move(self._counted[0] - parsed, "wait", "parse")
        self._bytes_read += self._counted[1] - read

    def _read(self) -> None:
        if not self._unread:
            return
        losses = torch.stack([loss for loss, _ in self._unread]).double().cpu().numpy()
        counts = np.array([count for _, count in self._unread], dtype=np.int64)
        finite = np.isfinite(losses)
        if not finite.all():
            first = int(np.argmin(finite))
            raise JobFailedError(
                f"the loss{self._loss_of} is {losses[first]} at batch {self.batches - len(losses) + 1 + first}; lower "
                "the learning rate (training.optimizers[].param_groups[].config.lr), normalise the inputs (mean and "
                "std of the parser), or look for huge or missing values in them"
            )
        self._unreported.add(losses, counts)
        self._epoch.add(losses, counts)
        self._curve.add(losses, counts)
        self._unread.clear()

    def _send(self, event: TrainEvent) -> None:
        self._emit(event.SerializeToString())


class _Mean:
    """A mean over samples, from batch means."""

    def __init__(self) -> None:
        self._total = 0.0
        self.count = 0

    def add(self, values: Float64Array, counts: Int64Array) -> None:
        self._total = added(self._total, values * counts)
        self.count += int(counts.sum())

    def value(self) -> float:
        return self._total / self.count if self.count else 0.0

    def state(self) -> list[float]:
        return [self._total, self.count]

    def resume(self, state: list[float]) -> None:
        self._total, self.count = state[0], int(state[1])
