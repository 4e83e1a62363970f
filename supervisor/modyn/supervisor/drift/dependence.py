"""How strongly neighbouring samples depend on each other, and how long blocks have to be to be nearly independent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import fft, special

from modyn.core.arrow import Int64Array
from modyn.core.plugins.drift import Numbers
from modyn.core.plugins.triggers import Features

FALSE_DETECTION = 0.05
"""Chance to see dependence in independent samples. Harmless when it happens: blocks are a bit longer than needed."""

TARGET_INFLATION = 12.0
"""Inverse of how much of a block's variance neighbouring blocks may add."""

MAXIMUM_COLUMNS = 64
"""Features looked at closely; those with the largest autocorrelation at short lags."""

SUSPICIOUS_BLOCKS, SUSPICIOUS_RATIO = 6, 8
"""A jump is suspected if fewer blocks would fit into a window, and one window's would be so many times shorter."""

MOST_SEASONS = 4
"""Over which the autocorrelation that a season leaves is averaged."""

SHORTEST = 8
"""Samples; nothing can be said of the dependence within shorter windows."""

TINY = 1e-30


class Dependence(NamedTuple):
    """Of the most dependent of the features.

    Attributes:
        time: integrated autocorrelation time, samples: n samples tell as much about a mean as n / time independent
            ones; >= 1.
        reach: how far samples depend on each other, samples: neighbours contribute ``reach / L`` of the variance of
            sums over many blocks of length L; >= 0.
        block_length: samples; neighbouring blocks of this length are nearly independent; >= 1.
    """

    time: float
    reach: float
    block_length: int

    def inflation(self, length: int) -> float:
        """Variance of a sum over neighbouring blocks, divided by that over blocks far from each other; >= 1.

        Args:
            length: of the blocks, samples.
        """
        return 1 / (1 - min(self.reach / length, 0.5))


INDEPENDENT = Dependence(1.0, 0.0, 1)


def dependence(reference: Features, current: Features) -> Dependence:
    """The dependence of samples within two windows, so that a difference between them does not count as such.

    A feature and the size of its deviations are looked at, since tests of distributions see changes of scale too.
    With rho_k the autocorrelation at lag k, ``time = 1 + 2 sum rho_k``, and sums over neighbouring blocks of L samples
    correlate with about ``sum k rho_k / (L time)``. L is chosen so that neighbours add less than
    1 / :data:`TARGET_INFLATION` to the variance of a block. The sums end where two neighbouring lags
    together are not positive (Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7(4), 1992).

    Drift within a window looks like strong dependence, and would keep itself from being seen. So a linear trend is
    taken out first, and if the blocks would be too long for a test, and one of the windows alone shows hardly any
    dependence, that window is believed.

    Args:
        reference, current: float32 [n, d] and [m, d], each in the order of time.

    >>> noise = np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)
    >>> dependence(noise[:1000], noise[1000:])
    Dependence(time=1.0, reach=0.0, block_length=1)
    >>> smooth = noise[1:] + noise[:-1]  # rho_1 = .5
    >>> dependence(smooth[:1000], smooth[1000:]).block_length > 1
    True
    """
    windows = [window for window in (reference, current) if len(window) >= SHORTEST]
    found = _within(windows)
    sizes = [len(window) for window in windows]
    if len(sizes) < 2 or min(sizes) < max(sizes) / 2 or found.block_length * SUSPICIOUS_BLOCKS <= min(sizes):
        return found
    least = min((_within([window]) for window in windows), key=lambda one: one.block_length)
    return least if least.block_length * SUSPICIOUS_RATIO <= found.block_length else found


def _within(windows: list[Features]) -> Dependence:
    """What windows show together."""
    if not windows:
        return INDEPENDENT
    features = windows[0].shape[1]
    windows = [_series(window[:, _candidates(windows)]) for window in windows]
    count = sum(len(window) for window in windows)
    rho = _autocorrelation(windows, max(len(window) for window in windows) // 3)
    checked = 2 ** np.arange(int(np.log2(len(rho))) + 1)  # sums over the first 1, 2, 4, … lags
    sums = np.cumsum(rho, axis=0)[checked - 1] * np.sqrt(count / checked)[:, None]
    looks = 2 * features * len(checked)
    dependent = sums.max(axis=0) > -special.ndtri(FALSE_DETECTION / looks)
    if not dependent.any():
        return INDEPENDENT
    kinds = np.arange(rho.shape[1]) < rho.shape[1] // 2, np.arange(rho.shape[1]) >= rho.shape[1] // 2
    found = [
        _of_similar(rho[:, dependent & kind], count, count / len(windows)) for kind in kinds if (dependent & kind).any()
    ]
    return max(found, key=lambda one: one.block_length)


def _of_similar(rho: Numbers, count: int, size: float) -> Dependence:
    """The dependence that the most dependent of some columns show together, so that their noise averages.

    Args:
        rho: autocorrelation at lags 1, 2, …; float64 [lags, columns].
        count: samples behind it.
        size: of a window, samples.
    """
    times = 1 + 2 * _positive_start(rho).sum(axis=0)
    alike = rho[:, times >= times.max() / 2].mean(axis=1)
    alike = _unbiased(alike, _extent(alike)[0], size)
    time, reach = _extent(alike)
    length = TARGET_INFLATION * reach
    season = _period(alike, 4 / np.sqrt(count))
    if season:  # it hides what is beneath; an even season itself does not make windows differ
        _, reach = _extent(_beneath(alike, season))
        length = max(length, TARGET_INFLATION * reach)
    return Dependence(time, reach, max(1, int(np.ceil(length))))


def _unbiased(rho: Numbers, time: float, size: float) -> Numbers:
    """With what is lost because windows of ``size`` samples lose their mean and trend: about ``2 time / size`` of the
    variance, at every lag; up to where ``rho`` ends."""
    lost = min(2 * time / size, 0.5)
    going_on = _positive_start(rho[:, None])[:, 0] > 0
    return np.asarray(np.where(going_on, rho + lost * (1 - rho), rho), dtype=np.float64)


def _extent(rho: Numbers) -> tuple[float, float]:
    """``1 + 2 sum rho_k`` and ``2 sum k rho_k / time``, samples.

    Args:
        rho: at lags 1, 2, …; float64 [lags].
    """
    rho = _positive_start(rho[:, None])[:, 0]
    time = 1 + 2 * float(rho.sum())
    return time, 2 * float(np.arange(1, len(rho) + 1) @ rho) / time


def _beneath(rho: Numbers, season: int) -> Numbers:
    """Autocorrelation without that of a season, which is what is left one and more seasons later.

    Args:
        rho: at lags 1, 2, …; float64 [lags].
        season: lag, samples; < lags.
    """
    width = min(season, len(rho) - season)
    later = [rho[start : start + width] for start in range(season, len(rho) - width + 1, season)][:MOST_SEASONS]
    peaks = [rho[lag - 1] for lag in range(season, len(rho) + 1, season)][: len(later)]
    return np.asarray((rho[:width] - np.mean(later, axis=0)) / (1 - min(float(np.mean(peaks)), 0.99)), dtype=np.float64)


def _period(rho: Numbers, significant: float) -> int:
    """Lag at which the autocorrelation returns after it has ended; 0 if it does not.

    Args:
        rho: at lags 1, 2, …; float64 [lags].
    """
    start = int(np.count_nonzero(_positive_start(rho[:, None])))
    if start >= len(rho) - 1:
        return 0
    first = start + int(np.argmax(rho[start:-1] >= 0.9 * rho[start:-1].max()))
    peak = first + int(np.argmax(rho[first : min(first + start + 1, len(rho) - 1)]))
    return peak + 1 if rho[peak] > max(significant, 0.1) else 0


def _candidates(windows: list[Features]) -> Int64Array:
    """The columns with the largest autocorrelation at the first lags, at most :data:`MAXIMUM_COLUMNS`."""
    if windows[0].shape[1] <= MAXIMUM_COLUMNS:
        return np.arange(windows[0].shape[1])
    total = np.zeros(windows[0].shape[1])
    for window in windows:
        centered = window - window.mean(axis=0)
        variance = np.maximum(np.einsum("ij,ij->j", centered, centered), TINY)
        for lag in (1, 2, 3):
            total += np.einsum("ij,ij->j", centered[lag:], centered[:-lag]) / variance * len(window)
    return np.sort(np.argpartition(-total, MAXIMUM_COLUMNS)[:MAXIMUM_COLUMNS])


def _series(window: Features) -> Features:
    """Deviations of the columns from their trend and sizes of these, with mean 0 and variance 1, float32 [n, 2 d]."""
    columns = window - window.mean(axis=0, dtype=np.float64)
    time = np.linspace(-1, 1, len(window))
    columns -= np.outer(time, time @ columns / (time @ time))
    columns = np.concatenate((columns, np.abs(columns)), axis=1)
    columns -= columns.mean(axis=0)
    scale = np.sqrt(np.mean(columns * columns, axis=0))
    return np.asarray(columns / np.maximum(scale, TINY), dtype=np.float32)


def _autocorrelation(windows: list[Features], lags: int) -> Numbers:
    """Autocorrelation at lags 1 … ``lags`` over all windows, never across two of them, float64 [lags, d]."""
    products, pairs = np.zeros((lags + 1, windows[0].shape[1])), np.zeros(lags + 1)
    for window in windows:
        size = fft.next_fast_len(len(window) + lags, real=True)
        spectrum = fft.rfft(window, size, axis=0)
        reached = min(lags + 1, len(window))
        products[:reached] += fft.irfft(np.abs(spectrum) ** 2, size, axis=0)[:reached]
        pairs[:reached] += len(window) - np.arange(reached)
    return (products / np.maximum(pairs, 1)[:, None])[1:]


def _positive_start(rho: Numbers) -> Numbers:
    """With zeros from the first two lags on whose sum is not positive."""
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2, rho.shape[1]).sum(axis=1) > 0
    going_on = np.repeat(np.logical_and.accumulate(pairs, axis=0), 2, axis=0)
    going_on = np.concatenate((going_on, going_on[: len(rho) - len(going_on)] & False))
    return np.where(going_on, np.maximum(rho, 0), 0.0)
