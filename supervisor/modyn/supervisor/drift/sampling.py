"""Samples of windows that stay the same while the windows slide."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.plugins.drift import Samples


def steady_sample(samples: Samples, size: int | None) -> Int64Array:
    """Keys of at most ``size`` samples in the order of (event time, key), int64 [min(n, size)].

    Those with the smallest hash of their key are taken. That is a uniform sample as far as keys have nothing to do with
    hashes, and unlike one drawn anew for every evaluation it hardly changes from one window to the next, or between
    windows that overlap: a sample leaves only with the window, or when a new one with a smaller hash comes in. So a
    model has to be shown few samples besides the new ones, and none twice.

    Args:
        size: None for all.
    """
    if size is not None and len(samples) > size:
        samples = samples[np.argpartition(hashed(samples.keys), size)[:size]]
    return samples.keys[np.lexsort((samples.keys, samples.timestamps))]


def hashed(keys: Int64Array) -> npt.NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
    OOPSLA 2014), a bijection: different keys have different hashes. uint64 [n]."""
    mixed = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return hashes
