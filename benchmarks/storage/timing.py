"""Paired timings: ours and a baseline in turn, so that a machine that slows down slows both."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

ROUNDS = 5


@dataclass(frozen=True)
class Paired:
    """Seconds of both sides, one entry a round."""

    ours: list[float]
    baseline: list[float]

    @property
    def ratio(self) -> float:
        """How many times faster ours is: median over the rounds' ratios."""
        return median(baseline / ours for ours, baseline in zip(self.ours, self.baseline, strict=True))

    def sentence(self) -> str:
        """Both medians, for a reader."""
        return f"ours {median(self.ours):.4g} s, baseline {median(self.baseline):.4g} s, × {self.ratio:.3g}"


def paired(ours: Callable[[], float], baseline: Callable[[], float], rounds: int = ROUNDS) -> Paired:
    """Runs both in turn, after one round that does not count.

    Args:
        ours, baseline: do the work and answer its seconds.
    """
    times = Paired([], [])
    for number in range(rounds + 1):
        gc.collect()
        seconds = ours(), baseline()
        if number:
            times.ours.append(seconds[0])
            times.baseline.append(seconds[1])
    return times


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


_started = time.perf_counter()


def say(text: str) -> None:
    """A line of progress, with the seconds since the start."""
    print(f"[{time.perf_counter() - _started:6.1f} s] {text}", flush=True)
