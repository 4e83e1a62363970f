"""Streams of scores whose true mean is known, and windows of samples whose true accuracy is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import signal, special

from modyn.core.plugins.evaluation import Float64Array

Streams = tuple[Float64Array, float]
"""Several streams, float64 [runs, n], and what they are around."""

SETTLING = 300
"""Values that are made before the first one that counts."""


def autoregressive(runs: int, n: int, phi: float, random: np.random.Generator) -> Float64Array:
    """Streams ``x_t = phi x_{t-1} + noise`` of variance 1, float64 [runs, n]."""
    return _filtered([1.0], [phi], random.standard_normal((runs, n + SETTLING))) * math.sqrt(1 - phi**2)


def score_streams(name: str, runs: int, n: int, random: np.random.Generator) -> Streams:
    """Streams of one of :data:`STREAMS`."""
    return STREAMS[name](runs, n, random)


def samples_right(runs: int, n: int, accuracy: float, repeating: float, random: np.random.Generator) -> Float64Array:
    """Whether samples are right, 0 or 1, float64 [runs, n].

    Each repeats the last one with probability ``repeating``, so samples l apart correlate by ``repeating**l``.
    """
    fresh = random.random((runs, n)) < accuracy
    drawn = random.random((runs, n)) >= repeating
    drawn[:, 0] = True
    last = np.maximum.accumulate(np.where(drawn, np.arange(n), 0), axis=1)
    return np.take_along_axis(fresh, last, axis=1).astype(np.float64)


def _filtered(moving: list[float], autoregression: list[float], noise: Float64Array) -> Float64Array:
    found: Float64Array = signal.lfilter(moving, [1.0, *(-phi for phi in autoregression)], noise, axis=1)[:, SETTLING:]
    return found


def _linear(*autoregression: float, moving: float = 0.0) -> Callable[[int, int, np.random.Generator], Streams]:
    def make(runs: int, n: int, random: np.random.Generator) -> Streams:
        return _filtered([1.0, moving], list(autoregression), random.standard_normal((runs, n + SETTLING))), 0.0

    return make


def _noisy(phi: float) -> Callable[[int, int, np.random.Generator], Streams]:
    def make(runs: int, n: int, random: np.random.Generator) -> Streams:
        return autoregressive(runs, n, phi, random) + random.standard_normal((runs, n)), 0.0

    return make


def _accuracies(log_odds: float, spread: float) -> Callable[[int, int, np.random.Generator], Streams]:
    def make(runs: int, n: int, random: np.random.Generator) -> Streams:
        chances = special.expit(log_odds + spread * autoregressive(runs, n, 0.8, random))
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        mean = float(special.expit(log_odds + spread * points) @ weights / weights.sum())
        return random.binomial(50, chances) / 50, mean

    return make


def _growing(runs: int, n: int, random: np.random.Generator) -> Streams:
    return autoregressive(runs, n, 0.6, random) * np.where(np.arange(n) < n // 2, 1.0, 2.0), 0.0


def _shifting(runs: int, n: int, random: np.random.Generator) -> Streams:
    return autoregressive(runs, n, 0.6, random) + np.where(np.arange(n) < n // 2, -1.0, 1.0), 0.0


def _skewed(runs: int, n: int, random: np.random.Generator) -> Streams:
    return _filtered([1.0], [0.6], random.exponential(size=(runs, n + SETTLING)) - 1), 0.0


def _outlying(runs: int, n: int, random: np.random.Generator) -> Streams:
    return _filtered([1.0], [0.6], random.standard_t(3, size=(runs, n + SETTLING))), 0.0


STREAMS: dict[str, Callable[[int, int, np.random.Generator], Streams]] = {
    "MA(1) .8": _linear(moving=0.8),
    "MA(1) -.5": _linear(moving=-0.5),
    "AR(2) .5, .3": _linear(0.5, 0.3),
    "AR(2) 1.2, -.5": _linear(1.2, -0.5),
    "AR(1) .8 and as much noise": _noisy(0.8),
    "AR(1) .9 and as much noise": _noisy(0.9),
    "accuracy of 50 samples, about .81, log odds AR(1) .8": _accuracies(1.5, 0.5),
    "accuracy of 50 samples, about .95, log odds AR(1) .8": _accuracies(3.0, 0.3),
    "AR(1) .6, twice the spread in the second half": _growing,
    "AR(1) .6, level shifts by 2 standard deviations": _shifting,
    "AR(1) .6, exponential noise": _skewed,
    "AR(1) .6, noise t(3)": _outlying,
}
"""By name: functions of runs, n and a generator."""
