"""Where the time of a training goes, and how its loss fell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from modyn.proto.trainer_server_pb2 import LossPoint, Telemetry

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

Part = Literal["wait", "parse", "forward", "backward", "step", "checkpoint", "validation", "callback"]

CURVE_POINTS = 1000
"""Most points of a loss curve."""


def added(total: float, values: Float64Array) -> float:
    """The total with all values added, one after the other: the same bits however they are handed over."""
    for value in values.tolist():
        total += value
    return total


class Stopwatch:
    """Seconds spent in each part of a training.

    The loop says after each part which one it was (:meth:`lap`): one look at the clock for each, and nothing between
    two parts is lost.

    Args:
        wait: called before each look at the clock, to let a GPU finish what it was given; None: it need not.
    """

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        self._wait = wait
        self._seconds: dict[str, float] = {}
        self._last = time.perf_counter()
        self._inside = 0.0
        """Seconds of the current part that were added to another one."""

    def start(self) -> None:
        """The next part begins now; what went before belongs to none."""
        if self._wait is not None:
            self._wait()
        self._last = time.perf_counter()
        self._inside = 0.0

    def lap(self, part: Part) -> None:
        """The time since the last lap, or since :meth:`start`, was this part's."""
        if self._wait is not None:
            self._wait()
        now = time.perf_counter()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._last - self._inside
        self._last = now
        self._inside = 0.0

    @contextmanager
    def timing(self, part: Part) -> Iterator[None]:
        """Adds the seconds of a block to a part; they do not count for the lap that they are in."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - began)

    def add(self, part: Part, seconds: float) -> None:
        """Adds seconds to a part; they do not count for the lap that they are in."""
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds
        self._inside += seconds

    def move(self, seconds: float, source: Part, target: Part) -> None:
        """Some of the seconds of a part were another one's."""
        self._seconds[source] = self._seconds.get(source, 0.0) - seconds
        self._seconds[target] = self._seconds.get(target, 0.0) + seconds

    def report(self) -> Telemetry:
        """Seconds so far."""
        telemetry = Telemetry()
        for part, seconds in self._seconds.items():
            setattr(telemetry, f"{part}_seconds", max(0.0, seconds))
        return telemetry

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return dict(self._seconds)

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self._seconds = dict(state)
        self.start()


class LossCurve:
    """The losses of a training as at most :data:`CURVE_POINTS` means over equally many batches each.

    When there are too many points, neighbours are merged: memory is bounded, and the curve is the same however the
    losses were handed over.

    Args:
        points: the most there may be; an even number.
    """

    def __init__(self, points: int = CURVE_POINTS) -> None:
        self._points = points
        self._stride = 1
        """Batches of a point."""
        self._losses: list[float] = []
        """Sums of losses over the samples of each point."""
        self._samples: list[int] = []
        self._batches = 0
        """Of the last point, if it is not full; else 0."""

    def add(self, losses: Float64Array, samples: Int64Array) -> None:
        """The mean losses of the next batches and the numbers of their samples, [n] each."""
        sums = losses * samples
        position = 0
        while position < len(sums):
            if not self._batches:
                self._make_room()
                self._losses.append(0.0)
                self._samples.append(0)
            take = slice(position, min(len(sums), position + self._stride - self._batches))
            self._losses[-1] = added(self._losses[-1], sums[take])
            self._samples[-1] += int(samples[take].sum())
            self._batches = (self._batches + take.stop - take.start) % self._stride
            position = take.stop

    def points(self) -> list[LossPoint]:
        """Each with the last of its batches, counted from 1."""
        last = len(self._losses) - 1
        return [
            LossPoint(
                batch=i * self._stride + (self._batches if i == last and self._batches else self._stride),
                loss=total / samples if samples else 0.0,
            )
            for i, (total, samples) in enumerate(zip(self._losses, self._samples, strict=True))
        ]

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "stride": self._stride,
            "losses": list(self._losses),
            "samples": list(self._samples),
            "batches": self._batches,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self._stride, self._batches = state["stride"], state["batches"]
        self._losses, self._samples = list(state["losses"]), list(state["samples"])

    def _make_room(self) -> None:
        if len(self._losses) < self._points:
            return
        self._losses = [sum(self._losses[i : i + 2]) for i in range(0, len(self._losses), 2)]
        self._samples = [sum(self._samples[i : i + 2]) for i in range(0, len(self._samples), 2)]
        self._stride *= 2


class GpuMeter:
    """Utilisation and memory of the GPU of a training; says nothing of a CPU.

    Utilisation is that of the whole GPU, as its driver says (needs NVIDIA's ``nvidia-ml-py``; without it, only memory
    is reported).
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._utilisation = self._device is not None
        self._total = 0.0
        self._count = 0

    def sample(self) -> None:
        """Looks at the GPU."""
        if not self._utilisation:
            return
        try:
            self._total += torch.cuda.utilization(self._device) / 100
            self._count += 1
        except Exception:  # noqa: BLE001 - no library, or a driver that does not say: no reason for a training to fail
            self._utilisation = False

    def report(self, telemetry: Telemetry) -> None:
        """Writes down what was seen so far."""
        if self._device is None:
            return
        telemetry.gpu_memory_bytes = torch.cuda.max_memory_allocated(self._device)
        if self._count:
            telemetry.gpu_utilisation = self._total / self._count


def synchroniser(device: torch.device, accurate: bool) -> Callable[[], None] | None:
    """What waits for a device; None where nothing has to, or that would only cost time."""
    if not accurate or device.type != "cuda":
        return None
    return lambda: torch.cuda.synchronize(device)
