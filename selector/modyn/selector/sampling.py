"""Uniform sampling and slicing of key sets; pure functions of their arguments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.randomness import Purpose, generator

Mask = npt.NDArray[np.bool_]


def sample_mask(num_items: int, target: int, *, seed: int, purpose: Purpose, index: int) -> Mask:
    """Marks ``target`` of ``num_items`` positions, every subset of that size equally likely. bool [num_items].

    Each position draws a 64-bit number and the smallest ones win. It takes raw output of the generator only, so
    the result does not depend on how a NumPy version turns bits into samples.
    """
    if target >= num_items:
        return np.ones(num_items, dtype=np.bool_)
    if target <= 0:
        return np.zeros(num_items, dtype=np.bool_)
    draws = generator(seed, purpose, index).bit_generator.random_raw(num_items)
    threshold = np.partition(draws, target - 1)[target - 1]
    mask: Mask = draws <= threshold
    surplus = int(np.count_nonzero(mask)) - target
    if surplus:  # equal draws: chance 2**-64 a pair
        mask[np.flatnonzero(draws == threshold)[-surplus:]] = False
    return mask


def uniform_sample(keys: KeySet, target: int, *, seed: int, purpose: Purpose, index: int) -> KeySet:
    """``target`` of the keys without replacement, in their order; all of them if there are fewer."""
    if target >= len(keys):
        return keys
    mask = sample_mask(len(keys), target, seed=seed, purpose=purpose, index=index)
    return take(keys, np.flatnonzero(mask))


def take(keys: KeySet, positions: Int64Array) -> KeySet:
    """The keys at ascending positions."""
    if keys.array is not None:
        return KeySet.from_array(keys.array[positions])
    ranges = keys.ranges or ()
    if not ranges:
        return KeySet(ranges=())
    starts = np.array([r.start for r in ranges], dtype=np.int64)
    ends = np.cumsum([len(r) for r in ranges])
    # shift of every range: its keys are positions plus this number
    shifts = starts - np.concatenate(([0], ends[:-1]))
    counts = np.diff(np.searchsorted(positions, ends), prepend=0)
    return KeySet.from_array(positions + np.repeat(shifts, counts))


def part(keys: KeySet, start: int, stop: int) -> KeySet:
    """Positions ``start <= i < stop`` of a key set, without expanding ranges."""
    if keys.array is not None:
        return KeySet(array=keys.array[start:stop])
    result, offset = [], 0
    for r in keys.ranges or ():
        first, last = max(start - offset, 0), min(stop - offset, len(r))
        if first < last:
            result.append(KeyRange(r.start + first, r.start + last))
        offset += len(r)
    return KeySet.from_ranges(result)


def last(keys: KeySet, count: int) -> KeySet:
    """The last ``count`` keys; all of them if there are fewer."""
    return part(keys, max(0, len(keys) - count), len(keys))
