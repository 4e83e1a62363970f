"""Sampling with unequal probabilities and without replacement, with exact inclusion probabilities.

A sample that is chosen with probability π and weighs 1/π is unbiased (Horvitz and Thompson, "A generalization of
sampling without replacement from a finite universe", JASA 1952). Drawing one after the other in proportion to scores
does not choose in proportion to them, so that weights made of the scores would be biased; systematic sampling does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError

Float64Array = npt.NDArray[np.float64]

_TOLERANCE = 1e-6
"""How far, relatively, the sum of probabilities may be from a whole number."""

_BLOCK = 2**20  # items


def inclusion_probabilities(
    scores: Float64Array, size: int, *, floor: float = 0.0, what: str = "score"
) -> Float64Array:
    """With which probability to choose each of n items, so that ``size`` are chosen: min(1, c · score).

    Where fewer than ``size`` have a score above 0, these are certain and the others equally likely.

    >>> inclusion_probabilities(np.array([1.0, 1.0, 2.0, 8.0]), 2).tolist()
    [0.25, 0.25, 0.5, 1.0]
    >>> inclusion_probabilities(np.zeros(4), 1).tolist()
    [0.25, 0.25, 0.25, 0.25]

    Args:
        scores: float64 [n], finite and at least 0; one below 1e-308 times the highest counts as 0.
        size: 0 <= size <= n.
        floor: share of the probabilities before capping that is the same for all, in [0, 1]; each becomes at least
            ``floor * size / n``.
        what: name of a score in messages.

    Returns:
        float64 [n], in [0, 1], adding up to ``size`` but for rounding.

    Raises:
        InvalidInputError: a score is NaN, infinite or negative, or the size or floor out of range.
    """
    check_scores(scores, what)
    num_items = len(scores)
    if not 0 <= size <= num_items:
        raise InvalidInputError(f"size {size}: expected 0 to {num_items}, the number of items")
    if not 0 <= floor <= 1:
        raise InvalidInputError(f"floor {floor}: expected 0 to 1")
    peak = float(scores.max(initial=0.0))
    if peak == 0.0 or size == 0:
        return np.full(num_items, size / max(num_items, 1))
    shares = scores / peak  # first, as the sum of the scores may be above the largest number
    if floor > 0:
        shares *= (1 - floor) / shares.sum()
        shares += floor / num_items
    return _capped(shares, size)


def _capped(shares: Float64Array, size: int) -> Float64Array:
    """Scales shares to add up to ``size``, none above 1; overwrites them.

    Each round makes those certain that would be above 1 and scales the others anew: Newton's method for
    Σ min(1, c·share) = size, a concave function of c, so that few rounds suffice.
    """
    certain = np.zeros(len(shares), dtype=np.bool_)
    rest = size
    while rest > 0:
        total = float(shares.sum())  # of those that are not certain
        if total == 0.0:
            shares[~certain] = rest / (len(shares) - (size - rest))
            break
        shares /= total
        shares *= rest
        new = shares >= 1
        num_new = int(np.count_nonzero(new))
        if num_new == 0:
            break
        rest -= num_new
        certain |= new
        shares[new] = 0.0
    if rest <= 0:
        shares[:] = 0.0
    shares[certain] = 1.0
    return shares


def systematic_sample(probabilities: Float64Array, random: np.random.Generator) -> Int64Array:
    """Chooses items with given inclusion probabilities; as many as these add up to.

    Systematic sampling from a random order (Madow, "On the theory of systematic sampling, II", 1949): the
    probabilities lie side by side on a line, and what points at distance 1 hit is chosen. They are rounded to
    whole multiples of 2^-52 (with 10 million chosen: 2^-38), so that an item of probability 1 is always chosen, one
    of probability 0 never, and none twice, whatever sums of floats do.

    >>> systematic_sample(np.array([1.0, 0.0, 1.0]), np.random.default_rng(0)).tolist()
    [0, 2]

    Args:
        probabilities: float64 [n], in [0, 1], adding up to a whole number but for rounding.

    Returns:
        Positions of the chosen, ascending, int64 [round(sum)], none twice.

    Raises:
        InvalidInputError: a probability is out of range, or they do not add up to a whole number.
    """
    size = _whole_sum(probabilities)
    num_items = len(probabilities)
    if size in (0, num_items):
        return np.arange(size, dtype=np.int64)
    bits = min(52, 62 - size.bit_length())
    order = np.arange(num_items, dtype=np.uint32 if num_items < 2**32 else np.uint64)
    random.shuffle(order)
    ends = np.empty(num_items, dtype=np.int64)
    for start in range(0, num_items, _BLOCK):  # to hold no second column of this length
        block = slice(start, start + _BLOCK)
        ends[block] = np.rint(np.ldexp(probabilities[order[block]], bits))
    np.cumsum(ends, out=ends)
    points = np.arange(size, dtype=np.int64) << bits
    points += random.integers(0, 1 << bits)
    hit = np.searchsorted(ends, points, side="right")
    chosen = np.zeros(num_items, dtype=np.bool_)
    chosen[order[hit[hit < num_items]]] = True
    missing = size - int(np.count_nonzero(chosen))
    if missing > 0:  # Rounding left the line too short for the last point.
        rest = order[~chosen[order] & (probabilities[order] > 0)]
        chosen[rest[:missing]] = True
    return np.flatnonzero(chosen)


def _whole_sum(probabilities: Float64Array) -> int:
    check_scores(probabilities, "probability")
    if float(probabilities.max(initial=0.0)) > 1:
        raise InvalidInputError(f"probability {float(probabilities.max())}: expected at most 1")
    total = float(probabilities.sum())
    size = round(total)
    if abs(total - size) > _TOLERANCE * max(1, size):
        raise InvalidInputError(f"probabilities add up to {total}; expected a whole number, how many to choose")
    return size


def uniform_sample(num_items: int, size: int, random: np.random.Generator) -> Int64Array:
    """``size`` of n positions, ascending, int64; each set of that size is equally likely.

    Raises:
        InvalidInputError: the size is out of range.
    """
    if not 0 <= size <= num_items:
        raise InvalidInputError(f"size {size}: expected 0 to {num_items}, the number of items")
    if size == num_items:
        return np.arange(num_items, dtype=np.int64)
    return np.sort(random.choice(num_items, size, replace=False, shuffle=False))


def check_scores(scores: npt.NDArray[np.floating], what: str = "score") -> None:
    """
    Args:
        scores: [n].
        what: name of one in the message.

    Raises:
        InvalidInputError: some are NaN, infinite or negative.
    """
    lowest, highest = float(scores.min(initial=0.0)), float(scores.max(initial=0.0))
    if lowest >= 0 and highest < np.inf:  # false for NaN
        return
    kinds = {"NaN": np.isnan(scores), "infinite": np.isinf(scores), "negative": np.isfinite(scores) & (scores < 0)}
    found = ", ".join(f"{np.count_nonzero(mask)} {kind}" for kind, mask in kinds.items() if mask.any())
    first = int(np.flatnonzero(np.logical_or.reduce(list(kinds.values())))[0])
    raise InvalidInputError(
        f"{what}: expected finite numbers of at least 0, but of {len(scores)} there are {found}; "
        f"the first is {scores[first]} at position {first}"
    )
