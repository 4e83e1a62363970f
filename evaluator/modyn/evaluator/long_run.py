"""How far the mean of a series may be off whose values depend on those before them.

A studentised block bootstrap of the prewhitened series. An autoregression takes out most of the dependence, blocks of
what it leaves are drawn, the autoregression puts the dependence back, and what is compared is the mean over an estimate
of its own error, which is made anew for each draw (Davison and Hall, "On studentizing and blocking methods for
implementing the bootstrap with dependent data", 1993; Romano and Wolf, "Improved nonparametric confidence intervals in
time series regressions", 2006, who also found that intervals should be symmetric). Blocks are circular (Künsch 1989;
Politis and Romano, "A circular block-resampling procedure for stationary data", 1992).

The usual block bootstrap, quantiles of drawn means, is far too narrow on the few dozen windows that a run has.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from modyn.core.plugins.evaluation import Float64Array

DRAWS = 399
"""Series drawn. (DRAWS + 1) times a usual level is a whole number, so its quantile is one of the draws."""

LONGEST = 1000
"""Of longer series, neighbouring values are averaged first: their mean and its error are the same."""

MAX_DEPENDENCE = 0.98
"""The largest autoregressive coefficient: beyond it, a few hundred values do not tell whether a series has a mean at
all."""

_TOLD_APART = 5.0
"""n values do not tell a coefficient beyond 1 - 5 / n from one: bounded there, intervals of few windows are half
as wide and cover what they did (benchmarks/RESULTS.md)."""

_SURE_LEVEL = 0.99  # quantiles beyond this one have too few draws and follow Student's t


def reach_of_mean(values: Float64Array, level: float, random: np.random.Generator) -> float:
    """Half the width of a confidence interval of the mean that is centred at it.

    Args:
        values: in time order, at least twelve and not all the same, float64 [n].
        level: of confidence.
        random: what draws.
    """
    group = -(-len(values) // LONGEST)
    if group > 1:
        values = values[: len(values) // group * group].reshape(-1, group).mean(axis=1)
    centred = values - values.mean()
    phi = dependence(centred)
    residuals = centred[1:] - phi * centred[:-1]
    residuals -= residuals.mean()
    n = len(values)
    directions = _directions(n)
    error = _error(centred @ directions)
    drawn = _drawn(residuals, _effect_of_noise(phi, directions), phi, random)
    ratios = np.sort(np.abs(drawn[:, 0]) / np.maximum(_error(drawn), np.finfo(np.float64).tiny))
    sure = min(level, _SURE_LEVEL)
    quantile = float(ratios[min(math.ceil((DRAWS + 1) * sure - 1e-9), DRAWS) - 1])
    if level > sure:
        freedom = directions.shape[1] - 1
        quantile *= student(level, freedom) / student(sure, freedom)
    return quantile * float(error) / math.sqrt(n)


def dependence(centred: Float64Array) -> float:
    """The autoregressive coefficient, estimated a little too large.

    The estimate of least squares is too small by (1 + 3 φ) / n (Kendall, "Note on bias in the estimation of
    autocorrelation", 1954). That is added back, and 2 (1 + φ) / n on top: the error of the mean grows like 1 / (1 - φ),
    so an estimate that is too small as often as too large makes intervals too short. The size of that allowance was
    found by simulation (benchmarks/RESULTS.md, Coverage of confidence intervals).

    Args:
        centred: values less their mean, float64 [n].
    """
    n = len(centred)
    energy = float(centred @ centred) - 0.5 * (float(centred[0]) ** 2 + float(centred[-1]) ** 2)
    if energy <= 0:
        return 0.0
    phi = float(centred[1:] @ centred[:-1]) / energy
    largest = min(MAX_DEPENDENCE, 1 - _TOLD_APART / n)
    return min(max(phi + (3 + 5 * phi) / n, -largest), largest)


def block_length(residuals: Float64Array) -> int:
    """Length of circular blocks, at least the cube root of n.

    Politis and White, "Automatic block-length selection for the dependent bootstrap", 2004, with the correction of
    Patton, Politis and White 2009. Their rule answers 1 where no single autocorrelation stands out, though many small
    ones may be there: scores of finitely many samples around a slowly changing accuracy are such a series.

    Args:
        residuals: with mean zero, float64 [n].
    """
    n = len(residuals)
    least = math.cbrt(n)
    transform = np.fft.rfft(residuals, 2 * n)
    unseen = max(5, int(math.sqrt(math.log10(n))))
    largest_lag = min(math.ceil(math.sqrt(n)) + unseen, n - 1)
    covariances = np.fft.irfft(transform * transform.conj(), 2 * n)[: largest_lag + 1] / n
    if covariances[0] <= 0:
        return round(least)
    seen = np.abs(covariances[1:]) >= 2 * math.sqrt(math.log10(n) / n) * covariances[0]
    # The last lag that stands out before so many in a row that do not.
    runs = np.convolve(seen, np.ones(unseen, dtype=np.int64), mode="valid") == 0
    lag = int(np.argmax(runs)) if runs.any() else int(np.flatnonzero(seen)[-1]) + 1
    bandwidth = min(2 * lag, largest_lag)
    if bandwidth == 0:
        return round(least)
    lags = np.arange(1, bandwidth + 1)
    kernel = np.minimum(1.0, 2 * (1 - lags / bandwidth)) * covariances[1 : bandwidth + 1]
    slope = 2 * float(kernel @ lags)
    spectrum = float(covariances[0] + 2 * kernel.sum())
    best = math.cbrt(1.5 * (slope / spectrum) ** 2 * n) if spectrum > 0 else least
    return round(min(max(best, least), 3 * math.sqrt(n), n / 3))


def student(level: float, freedom: float) -> float:
    """The two-sided quantile of Student's t."""
    from scipy import special  # here, as it takes longer to import than most processes need it

    return float(special.stdtrit(freedom, (1 + level) / 2))


@lru_cache(maxsize=8)
def _directions(n: int) -> Float64Array:
    """The constant direction and slow cosines, orthonormal, float64 [n, 1 + v].

    What a series shows in the v cosines says how uncertain its mean is, whatever the form of its dependence; v is small
    because only the slowest changes tell (Müller, "A theory of robust long-run variance estimation", 2007; Lazarus,
    Lewis, Stock and Watson, "HAR inference: recommendations for practice", 2018, where the power of n is from).
    """
    count = max(3, round(0.3 * n ** (2 / 3)))
    angles = np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(count + 1))
    directions: Float64Array = math.sqrt(2 / n) * np.cos(angles)
    directions[:, 0] = 1 / math.sqrt(n)
    directions.flags.writeable = False
    return directions


def _error(coefficients: Float64Array) -> Float64Array:
    """What the constant coefficient of series [..., 1 + v] is off by, estimated from the others: float64 [...]."""
    errors: Float64Array = np.sqrt(np.mean(coefficients[..., 1:] ** 2, axis=-1))
    return errors


def _effect_of_noise(phi: float, directions: Float64Array) -> Float64Array:
    """What a unit of noise at each step adds to the coefficients of the series that it drives, float64 [n, 1 + v].

    Coefficients are linear in the noise, so the few directions are filtered once instead of every series.
    """
    effects = directions.copy()
    for later in range(len(effects) - 1, 0, -1):  # scipy.signal, which does this too, takes a second to import
        effects[later - 1] += phi * effects[later]
    return effects


def _drawn(residuals: Float64Array, effects: Float64Array, phi: float, random: np.random.Generator) -> Float64Array:
    """Coefficients of drawn series, float64 [DRAWS, 1 + v]."""
    count = len(residuals)
    length = block_length(residuals)
    starts = random.integers(0, count, size=(DRAWS, -(-count // length)))
    circle = np.concatenate([residuals, residuals[: length - 1]])
    noise = np.lib.stride_tricks.sliding_window_view(circle, length)[starts].reshape(DRAWS, -1)[:, :count]
    # The first value of each series comes from what the autoregression settles to.
    first = random.standard_normal(DRAWS) * (residuals.std() / math.sqrt(1 - phi * phi))
    drawn: Float64Array = noise @ effects[1:] + np.outer(first, effects[0])
    return drawn
