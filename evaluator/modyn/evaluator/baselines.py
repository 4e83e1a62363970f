"""No-model baselines: what could be had without training anything.

Both look only at labels of samples that came earlier. A sample before which there is no label has no baseline
prediction; it is left out of the baseline's score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array


@dataclass(frozen=True, eq=False)
class BaselinePredictions:
    """What a baseline says of n samples.

    Attributes:
        predictions: int64 [n]; 0 where it says nothing.
        defined: bool [n].
    """

    predictions: Int64Array
    defined: npt.NDArray[np.bool_]


def last_label(timestamps: Int64Array, labels: Int64Array) -> BaselinePredictions:
    """Every sample gets the label of the sample before it.

    Args:
        timestamps: of labelled samples in (timestamp, key) order, int64 [n].
        labels: their labels, int64 [n].
    """
    predictions = np.zeros(len(labels), dtype=np.int64)
    predictions[1:] = labels[:-1]
    return BaselinePredictions(predictions, np.arange(len(timestamps)) > 0)


def majority_class(timestamps: Int64Array, labels: Int64Array) -> BaselinePredictions:
    """Every sample gets the commonest label among the samples of strictly earlier seconds; of equally common
    ones, the smallest.

    Arguments as for :func:`last_label`.
    """
    earlier = np.searchsorted(timestamps, timestamps, side="left")  # how many samples have an earlier timestamp
    defined = earlier > 0
    predictions = np.zeros(len(labels), dtype=np.int64)
    predictions[defined] = running_mode(labels)[earlier[defined] - 1]
    return BaselinePredictions(predictions, defined)


def running_mode(labels: Int64Array) -> Int64Array:
    """The commonest value of each prefix ``labels[: i + 1]``; of equally common ones, the smallest.

    O(n log n) time and O(n) memory whatever the number of classes: the count of the commonest value is a running
    maximum of how often each element has occurred so far, and the values that reach it are the elements that
    occurred exactly so often since it was first reached.

    >>> running_mode(np.array([3, 1, 1, 3, 3]))
    array([3, 1, 1, 1, 3])
    """
    if len(labels) == 0:
        return np.empty(0, dtype=np.int64)
    values, index = np.unique(labels, return_inverse=True)
    occurrence = _occurrences(index)
    top = np.maximum.accumulate(occurrence)
    # A minimum that starts afresh whenever `top` grows: each level of `top` gets a range of numbers of its own,
    # below all earlier ones.
    levels = top * (len(values) + 1)
    candidate = np.where(occurrence == top, index, len(values))
    smallest = np.minimum.accumulate(candidate - levels) + levels
    modes: Int64Array = values[smallest]
    return modes


def _occurrences(index: npt.NDArray[np.intp]) -> Int64Array:
    """How often each element has occurred so far, itself included."""
    order = np.argsort(index, kind="stable")
    grouped = index[order]
    starts = np.concatenate(([True], grouped[1:] != grouped[:-1]))
    positions = np.arange(len(index))
    first_of_group = np.maximum.accumulate(np.where(starts, positions, 0))
    occurrence = np.empty(len(index), dtype=np.int64)
    occurrence[order] = positions - first_of_group + 1
    return occurrence


BASELINES: Mapping[str, Callable[[Int64Array, Int64Array], BaselinePredictions]] = {
    "majority_class": majority_class,
    "last_label": last_label,
}
"""By the name under which reports show them."""
