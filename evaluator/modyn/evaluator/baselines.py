"""No-model baselines: what could be had without training anything.

They look only at labels of earlier samples, and only once those are known. A sample before which nothing is known has
no baseline prediction; it is left out of the baseline's score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.durations import SECONDS_PER_UNIT

_HOURS_PER_DAY, _HOURS_PER_WEEK = 24, 168
_DIGIT = 16  # bits; NumPy sorts integers of so many in linear time


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled samples in (timestamp, key) order.

    Attributes:
        timestamps: event times, int64 [n], ascending, Unix seconds.
        labels: classes, int64 [n].
        known_at: when each label became known on the clock of the data, int64 [n], Unix seconds; equal to
            ``timestamps`` for labels that came with their samples.
    """

    timestamps: Int64Array
    labels: Int64Array
    known_at: Int64Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class BaselinePredictions:
    """What a baseline says of n samples.

    Attributes:
        predictions: int64 [n]; 0 where it says nothing.
        defined: bool [n].
    """

    predictions: Int64Array
    defined: npt.NDArray[np.bool_]


Baseline: TypeAlias = Callable[[Labelled], BaselinePredictions]


def last_label(data: Labelled) -> BaselinePredictions:
    """Every sample at second t gets the label of the newest sample before it, in (timestamp, key) order, whose label
    is known at t: with labels that come with their samples, of the sample just before.

    >>> early_and_late = Labelled(np.array([10, 20, 30]), np.array([1, 2, 3]), known_at=np.array([10, 31, 30]))
    >>> last_label(early_and_late).predictions
    array([0, 1, 1])
    """
    count = len(data)
    usable_at = np.maximum(data.timestamps, data.known_at)
    if np.array_equal(usable_at, data.timestamps):
        newest = np.arange(-1, count - 1)
    else:
        order = _order_in_time(usable_at)
        # Usable at t are all samples of earlier seconds that are known by then, and those of second t itself but the
        # ones that do not come before, which are known at t only if they are not late.
        prompt = np.concatenate(([0], np.cumsum(usable_at == data.timestamps)))
        positions = np.arange(count)
        behind = np.searchsorted(data.timestamps, data.timestamps, side="right")
        usable = np.searchsorted(usable_at[order], data.timestamps, side="right")
        usable -= prompt[behind] - prompt[positions]
        newest = np.concatenate(([-1], np.maximum.accumulate(order)))[usable]
    defined = newest >= 0
    return BaselinePredictions(np.where(defined, data.labels[newest], 0), defined)


def majority_class(data: Labelled) -> BaselinePredictions:
    """Every sample gets the commonest label among the samples of strictly earlier seconds whose labels were known
    before its second; of equally common ones, the smallest."""
    return _majority(data, slots=None)


def same_hour_of_day(data: Labelled) -> BaselinePredictions:
    """The majority class among samples of the same hour of the day (UTC)."""
    return _majority(data, slots=_HOURS_PER_DAY)


def same_hour_of_week(data: Labelled) -> BaselinePredictions:
    """The majority class among samples of the same hour of the same day of the week (UTC)."""
    return _majority(data, slots=_HOURS_PER_WEEK)


BASELINES: Mapping[str, Baseline] = {
    "majority_class": majority_class,
    "last_label": last_label,
    "same_hour_of_day": same_hour_of_day,
    "same_hour_of_week": same_hour_of_week,
}
"""By the name under which reports show them."""


def running_mode(labels: Int64Array) -> Int64Array:
    """The commonest value of each prefix ``labels[: i + 1]``; of equally common ones, the smallest.

    O(n) time and memory whatever the number of classes (O(n log n) if the labels span more than 32 bits): the count
    of the commonest value is a running maximum of how often each element has occurred so far, and the values that
    reach it are the elements that occurred exactly so often since it was first reached.

    >>> running_mode(np.array([3, 1, 1, 3, 3]))
    array([3, 1, 1, 1, 3])
    """
    if len(labels) == 0:
        return np.empty(0, dtype=np.int64)
    smallest, largest = int(labels.min()), int(labels.max())
    if largest - smallest < 2**31:
        values, index = None, (labels - smallest).astype(np.uint32)
    else:
        values, inverse = np.unique(labels, return_inverse=True)
        smallest, largest, index = 0, len(values) - 1, inverse.astype(np.uint32)
    occurrence = _occurrences(index)
    top = np.maximum.accumulate(occurrence)
    reaching = np.flatnonzero(occurrence == top)
    # A minimum that starts afresh whenever `top` grows: each level of `top` gets a range of numbers of its own,
    # below all earlier ones.
    levels = top[reaching].astype(np.int64) * (largest - smallest + 1)
    modes = np.minimum.accumulate(index[reaching] - levels) + levels
    modes = modes + smallest if values is None else values[modes]
    return np.repeat(modes, np.diff(reaching, append=len(labels)))


def _majority(data: Labelled, slots: int | None) -> BaselinePredictions:
    """The majority class so far within each slot; a slot is an hour modulo ``slots``, or None for a single one."""
    usable_at = np.maximum(data.timestamps, data.known_at)
    order = _order_in_time(usable_at)
    predictions = np.zeros(len(data), dtype=np.int64)
    defined = np.zeros(len(data), dtype=np.bool_)
    if slots is None:
        groups: list[tuple[Int64Array | slice, Int64Array]] = [(slice(None), order)]
    else:
        slot = (data.timestamps // SECONDS_PER_UNIT["h"] % slots).astype(np.uint8)
        groups = list(zip(_members(slot, slots), (order[part] for part in _members(slot[order], slots)), strict=True))
    for asking, answering in groups:  # the same samples in the order of events, and of labels
        if not len(answering):
            continue
        known = np.searchsorted(usable_at[answering], data.timestamps[asking], side="left")
        anything = known > 0
        said = np.zeros(len(known), dtype=np.int64)
        said[anything] = running_mode(data.labels[answering])[known[anything] - 1]
        predictions[asking], defined[asking] = said, anything
    return BaselinePredictions(predictions, defined)


def _members(slot: npt.NDArray[np.uint8], slots: int) -> list[Int64Array]:
    """Positions of each slot, ascending."""
    order = np.argsort(slot, kind="stable")
    return np.split(order, np.cumsum(np.bincount(slot, minlength=slots))[:-1])


def _order_in_time(moments: Int64Array) -> Int64Array:
    """Positions in ascending order of time; of equal times, ascending."""
    if (moments[1:] >= moments[:-1]).all():
        return np.arange(len(moments))
    return np.argsort(moments, kind="stable")


def _occurrences(index: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """How often each element has occurred so far, itself included."""
    order = np.argsort((index & (2**_DIGIT - 1)).astype(np.uint16), kind="stable")
    high = (index >> _DIGIT).astype(np.uint16)
    if high.any():
        order = order[np.argsort(high[order], kind="stable")]
    grouped = index[order]
    positions = np.arange(len(index), dtype=np.uint32)
    starts = np.concatenate(([True], grouped[1:] != grouped[:-1]))
    first_of_group = np.maximum.accumulate(np.where(starts, positions, np.uint32(0)))
    occurrence = np.empty(len(index), dtype=np.uint32)
    occurrence[order] = positions - first_of_group + np.uint32(1)
    return occurrence
