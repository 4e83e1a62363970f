"""Event times of many samples, and groups of samples of about the same age."""

from __future__ import annotations

import numpy as np

from modyn.core.arrow import Int64Array, slices
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SampleColumns
from modyn.selector.sampling import CHUNK, pieces
from modyn.selector.strata import KEYS_PER_READ, Float64Array, Strata

STEPS = 64
"""Steps of a half life: samples of one differ in weight by less than 1.1 %, and count as the youngest of them."""

OLDEST = 900 * STEPS
"""Older samples weigh as much as those of this step, some 1e-271, lest weights or their inverses leave the floats."""


def timestamps_of(columns: SampleColumns, keys: KeySet) -> Int64Array:
    """Event times in key-set order, int64 [n], Unix seconds; read in pieces, so that nothing else is as large."""
    times = np.empty(len(keys), dtype=np.int64)
    start = 0
    for piece in pieces(keys, KEYS_PER_READ):
        times[start : start + len(piece)] = columns.timestamps(piece)
        start += len(piece)
    return times


def age_strata(times: Int64Array, half_life: int) -> tuple[Strata, Float64Array]:
    """Samples by age before the newest of them, in steps of 1/64 of a half life, and what one of each step weighs.

    >>> strata, weights = age_strata(np.array([0, 20, 30]), half_life=10)
    >>> weights[strata.codes].tolist()
    [0.125, 0.5, 1.0]

    Args:
        times: event times, int64 [n], seconds.
        half_life: seconds.

    Returns:
        The groups, and their weights 2^(-age / half life), float64 [g].
    """
    codes = np.empty(len(times), dtype=np.int32)
    counts = np.zeros(1, dtype=np.int64)
    newest = times.max() if len(times) else 0
    for part in slices(len(times), CHUNK):
        ages = np.subtract(newest, times[part], dtype=np.float64)
        ages *= STEPS / half_life
        codes[part] = np.minimum(ages, OLDEST)
        here = np.bincount(codes[part])
        counts = np.pad(counts, (0, max(0, len(here) - len(counts))))
        counts[: len(here)] += here
    return Strata(codes, counts), np.exp2(-np.arange(len(counts)) / STEPS)
