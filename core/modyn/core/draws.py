"""Random numbers of samples: functions of (seed, trigger, epoch, sample), whatever batch the sample is in.

The numbers are hashes: the seed, trigger and epoch choose a 64-bit word, which is mixed with the sample's key, the
name of the draw and a counter by the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.randomness import Purpose, derived_seed

Uint64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

EPOCHS_PER_TRIGGER = 2**20
"""Epochs are numbered trigger * this + epoch."""

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio, the step of SplitMix64


def mixed(words: Uint64Array) -> Uint64Array:
    """A bijection of 64-bit words whose every output bit depends on every input bit; the same shape.

    >>> mixed(np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)).tolist()
    [0, 16294208416658607535]
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers for the n samples of a batch, or of many batches at once.

    Attributes:
        seed: of the training, 0 <= seed < 2**63.
        trigger: whose training it is.
        epoch: of that training.
        keys: what tells the samples apart, such as their keys, int64 [n]. Equal keys get equal numbers.
    """

    seed: int
    trigger: int
    epoch: int
    keys: Int64Array

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Int64Array | slice) -> Draws:
        """Those of some of the samples."""
        return replace(self, keys=self.keys[rows])

    def uniform(self, name: str, count: int = 1) -> Float64Array:
        """Numbers in [0, 1), float64 [n, count], with 53 random bits each.

        Args:
            name: what they are for; other names give independent numbers.
            count: how many for each sample.
        """
        purpose = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        counters = mixed(purpose + _GAMMA * np.arange(1, count + 1, dtype=np.uint64))
        bits = mixed(mixed(self._samples[:, None] ^ counters[None, :]) + _GAMMA)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, name: str, bounds: npt.ArrayLike) -> Int64Array:
        """Integers, int64 [n, k]: those of column j are in [0, bounds[j]).

        Args:
            name: what they are for.
            bounds: k positive integers below 2**32.
        """
        limits = np.asarray(bounds, dtype=np.int64)
        return (self.uniform(name, len(limits)) * limits).astype(np.int64)

    @cached_property
    def _samples(self) -> Uint64Array:
        """One word for each sample, uint64 [n]."""
        index = self.trigger * EPOCHS_PER_TRIGGER + self.epoch
        base = np.uint64(derived_seed(self.seed, Purpose.AUGMENTATION, index))
        return mixed(mixed(self.keys.astype(np.uint64) * _GAMMA + base) + base)
