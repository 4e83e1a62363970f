"""Groups of samples, such as those of one label, and how many to draw of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SampleColumns
from modyn.selector.sampling import Codes, Generator, Mask, pieces, stratified_mask

KEYS_PER_READ = 1 << 22
"""Labels that are read together: each becomes a code of one byte in most cases."""

MAX_LABELS = 1 << 20
"""With more different labels these are target values, not classes."""

_CLOSE = 1 << 12
"""Labels within so many numbers need no hashing."""

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Strata:
    """n samples in g groups.

    Attributes:
        codes: group of each sample, int8, int16 or int32 [n].
        counts: samples in each group, int64 [g].
    """

    codes: Codes
    counts: Int64Array

    @staticmethod
    def split(mask: Mask) -> Strata:
        """Two groups: where a mask is false (0), and where it is true (1)."""
        num_true = int(np.count_nonzero(mask))
        return Strata(mask.view(np.int8), np.array([len(mask) - num_true, num_true]))

    @staticmethod
    def runs(counts: Sequence[int]) -> Strata:
        """Groups that follow one another."""
        kind = _smallest(len(counts))
        return Strata(np.repeat(np.arange(len(counts), dtype=kind), counts), np.array(counts, dtype=np.int64))

    def followed_by(self, count: int) -> Strata:
        """These samples and after them more, in a group of their own."""
        codes = np.full(len(self.codes) + count, len(self.counts), dtype=_smallest(len(self.counts) + 1))
        codes[: len(self.codes)] = self.codes
        return Strata(codes, np.append(self.counts, count))

    def draw(self, budgets: Int64Array, random: Generator) -> Int64Array:
        """Positions of so many samples of each group, uniformly and without replacement; ascending, int64."""
        return np.flatnonzero(stratified_mask(self.codes, self.counts, budgets, random))


def label_strata(columns: SampleColumns, keys: KeySet) -> tuple[Strata, list[Any], pa.DataType]:
    """One group for each label; the labels in ascending order; and their type.

    Raises:
        InvalidInputError: samples have several labels each, or there are too many different ones.
    """
    numbers: dict[Any, int] = {}
    codes: Codes = np.empty(len(keys), dtype=np.int8)
    counts = np.zeros(0, dtype=np.int64)
    start, kind = 0, pa.null()
    for piece in pieces(keys, KEYS_PER_READ):
        column = columns.labels(piece)
        kind = column.type
        found, indices, occurrences = _encoded(column)
        table = np.array([numbers.setdefault(label, len(numbers)) for label in found], dtype=np.int64)
        if len(numbers) > MAX_LABELS:
            raise InvalidInputError(
                f"label: more than {MAX_LABELS:,} different values; expected classes, to draw or weigh by label"
            )
        codes = codes.astype(_smallest(len(numbers)), copy=False)
        codes[start : start + len(piece)] = table.astype(codes.dtype)[indices]
        counts = np.pad(counts, (0, len(numbers) - len(counts)))
        counts[table] += occurrences
        start += len(piece)
    labels = sorted(numbers, key=lambda label: (label is None, label or 0))
    order = np.array([numbers[label] for label in labels], dtype=np.int64)
    _renumber(codes, order)
    return Strata(codes, counts[order]), labels, kind


def _renumber(codes: Codes, order: Int64Array) -> None:
    """Makes group ``order[i]`` group i, in place."""
    ranks = np.argsort(order).astype(codes.dtype)
    if (np.diff(order) > 0).all():
        return
    for first in range(0, len(codes), KEYS_PER_READ):
        codes[first : first + KEYS_PER_READ] = ranks[codes[first : first + KEYS_PER_READ]]


def _encoded(labels: pa.Array) -> tuple[list[Any], npt.NDArray[np.integer], Int64Array]:
    """The different labels; the position of each sample's label among them, [n]; and how often each occurs."""
    if pa.types.is_nested(labels.type):
        raise InvalidInputError(
            f"label: samples have several labels each ({labels.type}); expected one class per sample, to draw or weigh "
            "by label"
        )
    if pa.types.is_integer(labels.type) and labels.null_count == 0:  # the common case, at half the cost
        values = labels.to_numpy()
        low, high = int(values.min()), int(values.max())
        if high - low < _CLOSE:
            indices = values - low if low else values
            occurrences = np.bincount(indices)
            if occurrences.all():
                return list(range(low, high + 1)), indices, occurrences
    encoded = labels.dictionary_encode(null_encoding="encode")
    positions = encoded.indices.to_numpy()
    return encoded.dictionary.to_pylist(), positions, np.bincount(positions, minlength=len(encoded.dictionary))


def _smallest(num_groups: int) -> type[np.signedinteger]:
    return next(kind for kind in (np.int8, np.int16, np.int32) if num_groups <= np.iinfo(kind).max)


def group_probabilities(counts: Int64Array, weights: Float64Array, size: int) -> Float64Array:
    """With which probability to choose a sample of each group, so that ``size`` are chosen: min(1, c · weight).

    >>> group_probabilities(np.array([1, 10]), np.array([9.0, 1.0]), 6).tolist()
    [1.0, 0.5]

    Args:
        counts: samples in each group, int64 [g].
        weights: of a sample of each group, float64 [g], at least 0.
        size: at most the samples in groups with weight.
    """
    probabilities = np.zeros(len(counts))
    left = (counts > 0) & (weights > 0)
    rest = size
    while rest > 0:
        # By the largest, lest what is left is so small that its inverse is no float.
        shares = np.where(left, weights, 0.0) / weights[left].max()
        scaled = shares * (rest / float((counts * shares).sum()))
        certain = left & (scaled >= 1)
        if not certain.any():
            probabilities[left] = scaled[left]
            break
        probabilities[certain] = 1.0
        rest -= int(counts[certain].sum())
        left &= ~certain
    return probabilities


def drawn_budgets(counts: Int64Array, probabilities: Float64Array, size: int, random: Generator) -> Int64Array:
    """How many to choose of each group, int64 [g]: ``size`` in all, and in expectation ``counts * probabilities``.

    Each group gets that number rounded up or down: systematic sampling (Madow, "On the theory of systematic sampling,
    II", 1949) of samples that stand by group, as drawing as many of a group uniformly completes it.

    Args:
        probabilities: float64 [g], such that ``counts * probabilities`` adds up to ``size`` but for rounding.
    """
    certain = np.where(probabilities >= 1, counts, 0)
    rest = size - int(certain.sum())
    ends = np.cumsum(np.where(probabilities >= 1, 0.0, counts * probabilities))
    if len(ends):
        ends[ends >= min(ends[-1], rest)] = rest  # exactly, whatever sums of floats do
    start = float(np.ldexp(float(random.bit_generator.random_raw() >> 11), -53))
    hits = np.ceil(np.concatenate(([0.0], ends)) - start).astype(np.int64)  # points start, start + 1, … before each end
    budgets: Int64Array = np.minimum(certain + np.diff(np.maximum(hits, 0)), counts)
    room = np.flatnonzero((budgets < counts) & (probabilities > 0))
    budgets[room[: size - int(budgets.sum())]] += 1  # rounding gave a group one more than it has
    return budgets
