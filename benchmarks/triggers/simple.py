"""How fast triggers by time and amount walk a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import numpy as np

from benchmarks.results import Result
from modyn.core.arrow import rows_per_message
from modyn.core.plugins.triggers import Arrivals, Trigger
from modyn.supervisor.guards import guarded
from modyn.supervisor.triggers import DataAmountTrigger, TimeTrigger
from tests.helpers.observing import ArrayObserver

NUM_SAMPLES = 100_000_000
PER_FIRING = 10_000
ROUNDS = 3
BYTES_PER_SAMPLE = 16  # a key and a timestamp
TRIGGERS: dict[str, Trigger] = {
    "amount": DataAmountTrigger(num_samples=PER_FIRING),
    "time": TimeTrigger(every=PER_FIRING),  # a sample a second
}


def simple_msps() -> Result:
    """The slower of the two."""
    speeds = million_samples_per_second()
    each = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
    return Result(
        value=min(speeds.values()),
        unit="million samples/s",
        baseline=f"{NUM_SAMPLES:,} timestamps in pieces as storage streams them, a firing per {PER_FIRING:,}; "
        f"median of {ROUNDS} runs: {each}",
        target=50,
        at_most=False,
    )


def million_samples_per_second(num_samples: int = NUM_SAMPLES) -> dict[str, float]:
    """By trigger; making the stream does not count."""
    return {
        name: num_samples / 1e6 / median(_seconds(trigger, num_samples) for _ in range(ROUNDS))
        for name, trigger in TRIGGERS.items()
    }


def _seconds(trigger: Trigger, num_samples: int) -> float:
    trigger = guarded(trigger)
    observe = ArrayObserver(np.zeros((1, 1)))
    state = trigger.initial_state()
    seconds, firings = 0.0, 0
    for piece in _pieces(num_samples):
        rest = piece
        started = time.perf_counter()
        while len(rest):
            step = trigger.next_firing(state, rest, observe)
            state = step.state
            if step.firing is None:
                break
            firings += 1
            rest = rest.from_position(step.firing.position)
        seconds += time.perf_counter() - started
    assert abs(firings - num_samples / PER_FIRING) <= 1
    return seconds


def _pieces(num_samples: int) -> Iterator[Arrivals]:
    """One sample a second on average, with ties and gaps, in the order of event time."""
    rows = rows_per_message(BYTES_PER_SAMPLE)
    jitter = np.sort(np.random.default_rng(0).integers(0, rows, rows))
    for first in range(0, num_samples, rows):
        size = min(rows, num_samples - first)
        yield Arrivals(np.arange(first, first + size), 1_600_000_000 + first + jitter[:size])
