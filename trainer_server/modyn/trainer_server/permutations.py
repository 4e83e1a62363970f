"""Random orders of any number of things, of which any part can be asked without making the whole."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.randomness import Purpose, generator

Uint32Array = npt.NDArray[np.uint32]

DRAWN_WHOLE = 1 << 16
"""Orders of up to so many things are drawn uniformly from all there are, and held: 512 KiB."""

MOST = 1 << 62
"""Things in the largest order."""

ROUNDS = 8


class Permutation:
    """A random order of 0 … n - 1, which depends on (seed, purpose, index) and n only.

    Large orders are a keyed bijection instead of a list: a Feistel network over the pairs (a, b) with a < A and b < B,
    where A * B is barely more than n, whose halves are added modulo A and B; numbers that it takes beyond n go through
    it again until they fall below. (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002: the
    generalised Feistel construction and cycle walking.) The round function is the finaliser of MurmurHash3 (Appleby)
    over the half and two random words of the round: no cryptography, but even to statistics.

    Args:
        size: n, from 0 to 2**62.
        seed: as for :func:`modyn.core.randomness.generator`, like the next two.
        purpose: what it is for.
        index: which of several orders.

    Raises:
        InvalidInputError: n is too large.
    """

    def __init__(self, size: int, seed: int, purpose: Purpose, index: int = 0) -> None:
        if size > MOST:
            raise InvalidInputError(f"an order of {size} samples; expected at most 2**62")
        self._size = size
        rng = generator(seed, purpose, index)
        self._whole: Int64Array | None = rng.permutation(size) if size <= DRAWN_WHOLE else None
        root = math.isqrt(max(0, size - 1)) + 1
        self._widths = (root, -(-size // root))
        self._keys: Uint32Array = rng.integers(0, 2**32, (ROUNDS, 2), dtype=np.uint32)
        self._keys[:, 1] |= 1  # factors: odd ones lose nothing

    def __len__(self) -> int:
        return self._size

    def at(self, turns: Int64Array) -> Int64Array:
        """What stands at some places of the order, int64 [k].

        Args:
            turns: each from 0 to n - 1, int64 [k].
        """
        if self._whole is not None:
            return self._whole[turns]
        numbers = self._once(turns)
        beyond = np.flatnonzero(numbers >= self._size)
        while len(beyond):
            again = self._once(numbers[beyond])
            numbers[beyond] = again
            beyond = beyond[again >= self._size]
        return numbers

    def _once(self, numbers: Int64Array) -> Int64Array:
        """The bijection of 0 … A * B - 1."""
        left_width, right_width = self._widths
        quotients, remainders = np.divmod(numbers, right_width)
        left, right = quotients.astype(np.uint32), remainders.astype(np.uint32)
        for shift, factor in self._keys:
            left, right = right, _added(left, _hashed(right, shift, factor), left_width)
            left_width, right_width = right_width, left_width
        result: Int64Array = left.astype(np.int64)
        result *= right_width
        result += right
        return result


def _hashed(half: Uint32Array, shift: np.uint32, factor: np.uint32) -> Uint32Array:
    words = half ^ shift
    words *= factor
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x85EBCA6B)
    words ^= words >> np.uint32(13)
    words *= np.uint32(0xC2B2AE35)
    words ^= words >> np.uint32(16)
    return words


def _added(half: Uint32Array, words: Uint32Array, width: int) -> Uint32Array:
    """``half`` plus a number below ``width`` that the words choose, modulo ``width``."""
    chosen = words.astype(np.uint64)
    chosen *= np.uint64(width)
    chosen >>= np.uint64(32)  # a product instead of a remainder, which takes ten times as long
    chosen += half
    chosen -= np.where(chosen >= width, np.uint64(width), np.uint64(0))
    return chosen.astype(np.uint32)
