"""Permutation tests that exchange whole blocks of neighbouring samples between two windows."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.drift import DriftMetric, Numbers, TestResult
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.dependence import INDEPENDENT, dependence
from modyn.supervisor.drift.features import check_windows

FEWEST_BLOCKS = 3
"""In a window, whatever the other one has."""

SPLITS_PER_LEVEL = 4
"""Ways to divide the blocks, times the false-alarm rate: fewer make a p-value too coarse. Half of the ways mirror the
other half if the windows have the same length."""


@dataclass(frozen=True)
class Blocks:
    """Two windows cut into blocks of the same length; what does not fill a block, the oldest samples, is left out.

    Attributes:
        length: samples per block.
        reference, current: blocks in each window.
    """

    length: int
    reference: int
    current: int

    @classmethod
    def cut(cls, reference: int, current: int, length: int) -> Blocks:
        """Blocks of at least so many samples, a little more if that leaves out fewer.

        Args:
            reference, current: samples in the windows.
        """
        lengths = np.arange(length, max(length, length * 5 // 4) + 1)
        left_out = reference % lengths + current % lengths
        chosen = int(lengths[np.argmin(left_out)])
        return cls(chosen, reference // chosen, current // chosen)

    @property
    def count(self) -> int:
        return self.reference + self.current

    def too_few(self, alpha: float) -> bool:
        """Whether no test at this false-alarm rate can be made."""
        if min(self.reference, self.current) < FEWEST_BLOCKS:
            return True
        return math.comb(self.count, self.current) < SPLITS_PER_LEVEL / alpha


@dataclass(frozen=True, eq=False)
class Splits:
    """Ways to divide blocks of samples between two windows; the first one is what was observed.

    Attributes:
        blocks: how the samples are cut.
        current: bool [blocks, splits]; whether a block lies in the current window.
        inflation: by how much the variance of a window's mean is larger in the observed split, where neighbouring
            blocks stay together, than in a random one; >= 1.
    """

    blocks: Blocks
    current: npt.NDArray[np.bool_]
    inflation: float = 1.0

    @classmethod
    def observed(cls, reference: int, current: int) -> Splits:
        """Only the observed one.

        Args:
            reference, current: samples in the windows.
        """
        blocks = Blocks(1, reference, current)
        return cls(blocks, (np.arange(blocks.count) >= reference)[:, None])

    @classmethod
    def drawn(cls, blocks: Blocks, permutations: int, rng: np.random.Generator, inflation: float = 1.0) -> Splits:
        """The observed one and so many random ones."""
        observed = np.arange(blocks.count) >= blocks.reference
        rows = np.tile(observed, (1 + permutations, 1))
        rng.permuted(rows[1:], axis=1, out=rows[1:])
        return cls(blocks, np.ascontiguousarray(rows.T), inflation)

    def scale(self, power: float) -> Numbers:
        """Makes up for the neighbours that random splits tear apart, float64 [splits].

        Args:
            power: 1 for statistics that grow with the square of a difference between the windows, .5 for linear ones.
        """
        return np.where(np.arange(self.current.shape[1]) == 0, 1.0, self.inflation**power)

    @property
    def samples(self) -> npt.NDArray[np.bool_]:
        """Whether a sample lies in the current window, bool [n + m, splits]."""
        return np.repeat(self.current, self.blocks.length, axis=0)

    @property
    def num_reference(self) -> int:
        """Samples in the reference window, in every split."""
        return self.blocks.reference * self.blocks.length

    @property
    def num_current(self) -> int:
        """Samples in the current window, in every split."""
        return self.blocks.current * self.blocks.length

    def block_sums(self, columns: Features) -> Features:
        """Sums over the samples of each block, float32 [blocks, d].

        Args:
            columns: float32 [n + m, d].
        """
        return np.asarray(columns.reshape(self.blocks.count, self.blocks.length, -1).sum(axis=1), dtype=np.float32)

    def means(self, columns: Features) -> tuple[Features, Features]:
        """Means of both windows in each split, float32 [splits, d] twice.

        Args:
            columns: float32 [n + m, d].
        """
        sums = self.block_sums(columns)
        current = self.current.T.astype(np.float32) @ sums
        reference = sums.sum(axis=0) - current
        return reference / np.float32(self.num_reference), current / np.float32(self.num_current)


def rank_p_value(statistics: Numbers, rng: np.random.Generator | None = None) -> float:
    """``p = (1 + #) / (1 + B)``, where # of B permuted statistics are at least as large as the observed one.

    Args:
        statistics: float64 [1 + B], the observed one first.
        rng: to count a random share of the ties, which keeps the test exact where statistics take few values; None
            to count them all. If all statistics are equal, p = 1.

    >>> rank_p_value(np.array([3.0, 1.0, 2.0, 3.0]))
    0.5
    """
    observed, permuted = statistics[0], statistics[1:]
    tied = int((permuted == observed).sum())
    if rng is not None and tied < len(permuted):
        tied = int(rng.integers(0, tied + 1))
    return (1 + int((permuted > observed).sum()) + tied) / (1 + len(permuted))


def critical_value(statistics: Numbers, alpha: float) -> float:
    """The value that a statistic has to exceed for ``p <= alpha``.

    Args:
        statistics: as for :func:`rank_p_value`.
    """
    above = math.floor(alpha * len(statistics) + 1e-9) - 1
    return float(np.sort(statistics[1:])[::-1][above])


def enough_permutations(permutations: int, alpha: float) -> int:
    """At least so many that the smallest p-value does not exceed the false-alarm rate."""
    return max(permutations, math.ceil(1 / alpha - 1e-9) - 1)


class Cut(NamedTuple):
    """How windows are cut for a test.

    Attributes:
        blocks: the blocks.
        inflation: see :class:`Splits`.
        too_short: whether there are too few blocks for a test.
        note: why there are too few, or how long they are; empty if they are single samples.
    """

    blocks: Blocks
    inflation: float
    too_short: bool
    note: str


def cut_windows(reference: Features, current: Features, alpha: float, block_length: int | None) -> Cut:
    """Cuts windows into blocks that suit the dependence within them, or of a given length.

    Raises:
        InvalidInputError: ``alpha`` or ``block_length`` is out of range.
    """
    check_options(alpha, block_length)
    found = INDEPENDENT if block_length is not None else dependence(reference, current)
    blocks = Blocks.cut(len(reference), len(current), block_length or found.block_length)
    if blocks.too_few(alpha):
        return Cut(blocks, 1.0, True, too_short(blocks, len(reference), len(current), alpha))
    note = f"blocks of {blocks.length:,} samples" if blocks.length > 1 else ""
    return Cut(blocks, found.inflation(blocks.length), False, note)


def check_options(alpha: float, block_length: int | None) -> None:
    """Raises:
    InvalidInputError: ``alpha`` or ``block_length`` is out of range.
    """
    if not 0 < alpha < 1:
        raise InvalidInputError(f"alpha is {alpha}; expected a false-alarm rate between 0 and 1")
    if block_length is not None and block_length < 1:
        raise InvalidInputError(f"block_length is {block_length}; expected at least 1 sample")


def too_short(blocks: Blocks, reference: int, current: int, alpha: float) -> str:
    """Why windows cannot be tested.

    Args:
        reference, current: samples in the windows.
    """
    enough = FEWEST_BLOCKS
    while Blocks(blocks.length, enough, enough).too_few(alpha):
        enough += 1
    why = "for the autocorrelation they show" if blocks.length > 1 else "to be tested"
    return (
        f"windows of {reference:,} and {current:,} samples are too short {why}: they hold {blocks.reference} and "
        f"{blocks.current} blocks of {blocks.length:,} samples; about {enough} blocks in each, "
        f"{enough * blocks.length:,} samples, are needed at alpha = {alpha:g}"
    )


class PermutationMetric(DriftMetric):
    """A metric whose test compares the observed statistic with those of windows between which blocks are exchanged.

    Exact on independent samples, whatever the blocks (Lehmann and Romano, Testing Statistical Hypotheses, ch. 15). On
    autocorrelated streams blocks are long enough to be nearly independent of each other, and what neighbours still add
    to the variance in the observed split is added to that of the random ones (:meth:`Splits.scale`).
    """

    @abstractmethod
    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        """What is measured in every split, float64 [splits]; larger is more different.

        Args:
            pooled: float32 [n + m, d]: the reference window, then the current one.
            rng: for metrics that draw numbers.
        """

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        return self._observed(*check_windows(reference, current), rng)

    def _observed(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        splits = Splits.observed(len(reference), len(current))
        return float(self.statistics(np.concatenate((reference, current)), splits, rng)[0])

    def test(
        self,
        reference: Features,
        current: Features,
        *,
        alpha: float,
        permutations: int,
        block_length: int | None,
        rng: np.random.Generator,
    ) -> TestResult:
        reference, current = check_windows(reference, current)
        cut = cut_windows(reference, current, alpha, block_length)
        if cut.too_short:
            return TestResult(self._observed(reference, current, rng), None, None, False, cut.note)
        splits = Splits.drawn(cut.blocks, enough_permutations(permutations, alpha), rng, cut.inflation)
        kept = (reference[-splits.num_reference :], current[-splits.num_current :])
        statistics = self.statistics(np.concatenate(kept), splits, rng)
        p_value = rank_p_value(statistics, rng)
        return TestResult(float(statistics[0]), critical_value(statistics, alpha), p_value, p_value <= alpha, cut.note)
