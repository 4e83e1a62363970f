"""Events of a running training, at a rate that costs nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from modyn.core.errors import JobFailedError
from modyn.proto.trainer_server_pb2 import FirstBatch, TrainEvent, TrainProgress, TrainStarted
from modyn.trainer_server.schedule import Schedule

INTERVAL_SECONDS = 0.1

Emit = Callable[[bytes], None]


class Progress:
    """Counts batches, samples and losses of a training, and reports them.

    Losses are collected unread, because reading one waits for a GPU; they are read when something is reported.

    Args:
        emit: takes serialised events.
        record_every: also report after every so many batches; 0: only at intervals.
    """

    def __init__(self, emit: Emit, record_every: int = 0) -> None:
        self._emit = emit
        self._record_every = record_every
        self._last_report = time.monotonic()
        self._unread: list[tuple[torch.Tensor, int]] = []
        self._unreported = _Mean()
        self._epoch = _Mean()
        self.samples = 0
        self.batches = 0
        self.epoch_losses: list[float] = []

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
        self._send(TrainEvent(first_batch=FirstBatch(unix_time=time.time() - after_seconds)))

    def notice(self, text: str) -> None:
        self._send(TrainEvent(notice=text))

    def batch_done(self, loss: torch.Tensor, count: int) -> None:
        """Counts one trained batch of ``count`` samples with its loss (a scalar).

        Raises:
            JobFailedError: a loss was not finite (found when losses are read).
        """
        self.batches += 1
        self.samples += count
        self._unread.append((loss.detach(), count))
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
        self._send(
            TrainEvent(progress=TrainProgress(epoch=epoch, samples=self.samples, batches=self.batches, loss=loss))
        )
        self._unreported = _Mean()
        self._last_report = time.monotonic()

    def _read(self) -> None:
        if not self._unread:
            return
        values = torch.stack([loss for loss, _ in self._unread]).float().tolist()
        first = self.batches - len(values) + 1
        for position, (value, (_, count)) in enumerate(zip(values, self._unread, strict=True)):
            if not math.isfinite(value):
                raise JobFailedError(
                    f"the loss is {value} at batch {first + position}; lower the learning rate "
                    "(training.optimizers[].param_groups[].config.lr), normalise the inputs (mean and std of the "
                    "parser), or look for huge or missing values in them"
                )
            self._unreported.add(value, count)
            self._epoch.add(value, count)
        self._unread.clear()

    def _send(self, event: TrainEvent) -> None:
        self._emit(event.SerializeToString())


class _Mean:
    """A mean over samples, from batch means."""

    def __init__(self) -> None:
        self._total = 0.0
        self.count = 0

    def add(self, value: float, count: int) -> None:
        self._total += value * count
        self.count += count

    def value(self) -> float:
        return self._total / self.count if self.count else 0.0
