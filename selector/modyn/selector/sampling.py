"""Drawing samples from key sets, and slicing them; pure functions of their arguments.

Nothing here holds more than a few bytes a key: random numbers are drawn and decided on in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array, slices
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.randomness import Purpose, generator

CHUNK = 1 << 18
"""Keys that are looked at together."""

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.signedinteger]
"""Numbers of groups, in the smallest type that holds them."""

UInt64Array = npt.NDArray[np.uint64]
Generator = np.random.Generator

_HIGHEST = np.uint64(2**64 - 1)
_DEVIATIONS = 6.0
"""How many standard deviations beyond the expected threshold a number is decided on without looking at others."""


def sample_mask(num_items: int, target: int, *, seed: int, purpose: Purpose, index: int) -> Mask:
    """Marks ``target`` of ``num_items`` positions, every subset of that size equally likely. bool [num_items].

    Each position draws a 64-bit number and the smallest ones win. It takes raw output of the generator only, so
    the result does not depend on how a NumPy version turns bits into samples.
    """
    if target >= num_items:
        return np.ones(num_items, dtype=np.bool_)
    if target <= 0:
        return np.zeros(num_items, dtype=np.bool_)
    random = generator(seed, purpose, index)
    return stratified_mask(None, np.array([num_items]), np.array([target]), random)


def stratified_mask(codes: Codes | None, counts: Int64Array, budgets: Int64Array, random: Generator) -> Mask:
    """Marks some items of each group, every subset of that size of the group equally likely.

    Each item draws a 64-bit number, and the smallest ones of each group win; of equal ones those of earlier items. What
    is far from a group's expected threshold is decided at once, so that few numbers need to be kept and sorted.

    Args:
        codes: group of each item, whole numbers [n]; None: there is one group.
        counts: items of each group, int64 [g].
        budgets: how many to mark, int64 [g], at most ``counts``.

    Returns:
        bool [n].
    """
    low, high = _doubtful(counts, budgets)
    state = random.bit_generator.state
    while True:
        mask, sure, doubtful = _decide(codes, counts, low, high, random)
        open_budgets, num_doubtful = budgets - sure, np.bincount(doubtful[0], minlength=len(counts))
        failed = (open_budgets < 0) | (open_budgets > num_doubtful)
        if not failed.any():
            break
        # Improbable numbers: once more, now looking at each number of these groups.
        low[failed], high[failed] = 0, _HIGHEST
        random.bit_generator.state = state
    groups, draws, positions = doubtful
    order = np.lexsort((draws, groups))
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(num_doubtful) - num_doubtful, num_doubtful)
    mask[positions[order[ranks < np.repeat(open_budgets, num_doubtful)]]] = True
    return mask


def _doubtful(counts: Int64Array, budgets: Int64Array) -> tuple[UInt64Array, UInt64Array]:
    """Bounds of each group: its members below the first are in, above the second out, almost surely."""
    sizes = np.maximum(counts, 1)
    shares = budgets / sizes
    margins = _DEVIATIONS * np.sqrt(shares * (1 - shares) / sizes) + 20 / sizes
    none, everything = budgets <= 0, budgets >= counts
    low = _as_draws(np.where(none, 0.0, np.where(everything, 1.0, shares - margins)))
    high = _as_draws(np.where(none, 0.0, np.where(everything, 1.0, shares + margins)))
    return low, high


def _as_draws(shares: npt.NDArray[np.float64]) -> UInt64Array:
    """Numbers below which this share of all 64-bit numbers lies."""
    scaled = np.ldexp(np.clip(shares, 0.0, 1 - 2.0**-53), 64).astype(np.uint64)
    return np.where(shares >= 1, _HIGHEST, scaled)


def _decide(
    codes: Codes | None, counts: Int64Array, low: UInt64Array, high: UInt64Array, random: Generator
) -> tuple[Mask, Int64Array, tuple[Int64Array, UInt64Array, Int64Array]]:
    """Draws a number for each item.

    Returns:
        The items whose number is below the lower bound; how many these are in each group; and group, number and
        position of those up to the higher one.
    """
    num_items = int(counts.sum()) if codes is None else len(codes)
    mask = np.empty(num_items, dtype=np.bool_)
    sure = np.zeros(len(counts), dtype=np.int64)
    groups, numbers, positions = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in slices(num_items, CHUNK):
        draws = random.bit_generator.random_raw(part.stop - part.start)
        if codes is None:
            here = np.broadcast_to(np.int64(0), len(draws))
            mask[part] = draws < low[0]
            sure[0] += np.count_nonzero(mask[part])
            near = np.flatnonzero((draws <= high[0]) & ~mask[part])
        else:
            here = codes[part].astype(np.intp)
            mask[part] = draws < low[here]
            sure += np.bincount(here[mask[part]], minlength=len(counts))
            near = np.flatnonzero((draws <= high[here]) & ~mask[part])
        groups.append(here[near])
        numbers.append(draws[near])
        positions.append(near + part.start)
    return mask, sure, (np.concatenate(groups), np.concatenate(numbers), np.concatenate(positions))


def uniform_sample(keys: KeySet, target: int, *, seed: int, purpose: Purpose, index: int) -> KeySet:
    """``target`` of the keys without replacement, in their order; all of them if there are fewer."""
    if target >= len(keys):
        return keys
    return take(keys, np.flatnonzero(sample_mask(len(keys), target, seed=seed, purpose=purpose, index=index)))


def sample_with_replacement(keys: KeySet, target: int, random: Generator) -> KeySet:
    """``target`` draws of any of the keys, in the order of the keys; none if there are no keys."""
    num_keys = len(keys)
    positions = np.empty(target if num_keys else 0, dtype=np.int64)
    for part in slices(len(positions), CHUNK):
        draws = random.bit_generator.random_raw(part.stop - part.start) >> np.uint64(11)
        positions[part] = np.minimum(np.ldexp(draws.astype(np.float64), -53) * num_keys, num_keys - 1)
    positions.sort()
    return take(keys, positions)


def take(keys: KeySet, positions: Int64Array) -> KeySet:
    """The keys at ascending positions; a position may be given several times."""
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


def pieces(keys: KeySet, size: int = CHUNK) -> Iterator[KeySet]:
    """Consecutive parts of ``size`` keys, the last one of fewer, that make up a key set; ranges stay ranges."""
    if keys.array is not None:
        for rows in slices(len(keys.array), size):
            yield KeySet(array=keys.array[rows])
        return
    collected: list[KeyRange] = []
    room = size
    for r in keys.ranges or ():
        start = r.start
        while start < r.end:
            end = min(r.end, start + room)
            collected.append(KeyRange(start, end))
            room -= end - start
            start = end
            if room == 0:
                yield KeySet(ranges=tuple(collected))
                collected, room = [], size
    if collected:
        yield KeySet(ranges=tuple(collected))
