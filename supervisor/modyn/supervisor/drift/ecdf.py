"""Statistics of empirical distribution functions for many splits at once, one feature at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.permutation import Splits

Differences = npt.NDArray[np.int16 | np.int32 | np.int64]


class Deviations(NamedTuple):
    """How the distribution functions of two windows differ in one feature.

    Attributes:
        values: the feature's different values, ascending, float32 [g].
        counts: how many samples have each of them, int64 [g].
        differences: F_reference - F_current at each of them, times ``scale``, integers [g, splits].
        scale: see there; integers make equal statistics exactly equal.
    """

    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    differences: Differences
    scale: int

    @property
    def has_ties(self) -> bool:
        """Whether any value occurs twice."""
        return bool((self.counts > 1).any())


def deviations(pooled: Features, splits: Splits) -> Iterator[Deviations]:
    """The deviations of every feature.

    Args:
        pooled: float32 [n + m, d].
    """
    n, m = splits.num_reference, splits.num_current
    divisor = math.gcd(n, m)
    scale = n * m // divisor
    dtype: type[np.signedinteger[Any]] = np.int16 if scale < 2**15 else np.int32 if scale < 2**31 else np.int64
    # a sample of the reference window adds 1/n, one of the current window -1/m, both times the scale
    steps = np.where(splits.samples, -(n // divisor), m // divisor).astype(dtype)
    for column in np.ascontiguousarray(pooled.T):
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        sums: Differences = np.cumsum(steps[order], axis=0, dtype=dtype)
        if len(ends) < len(column):
            sums = sums[ends]
        yield Deviations(ordered[ends], np.diff(ends, prepend=-1), sums, scale)
