"""Device slots: how many trainings run at once."""

from __future__ import annotations

import threading

from modyn.core.jobs import Slots

CPU_SLOTS = 1
"""A training uses all cores, so a second one would only slow the first."""

GPU_SLOTS = 1
"""Trainings per GPU."""


class Devices:
    """The slots of each device, by its name (``cpu``, ``cuda:N``)."""

    def __init__(self) -> None:
        self._slots: dict[str, Slots] = {}
        self._lock = threading.Lock()

    def slots(self, device: str) -> Slots:
        with self._lock:
            if device not in self._slots:
                self._slots[device] = Slots(CPU_SLOTS if device == "cpu" else GPU_SLOTS)
            return self._slots[device]
