"""What a batch of labels may look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.storage.label_files import as_type
from modyn.storage.label_merging import IsDeleted
from modyn.storage.label_values import corrected
from modyn.storage.schema import normal_labels, unix_seconds

_NAMED = 5
"""Offenders that a message names."""


@dataclass(frozen=True, eq=False)
class CheckedLabels:
    """Checked labels [n], by ascending key, each key once.

    Attributes:
        keys: int64 [n].
        labels: [n] of the dataset's type, or of their own (perhaps ``null``) while it is not known.
        label_times: int64 [n], Unix seconds.
        num_deleted: labels of deleted samples, which were left out.
    """

    keys: Int64Array
    labels: pa.Array
    label_times: Int64Array
    num_deleted: int


def check_label_batch(
    keys: pa.Array,
    labels: pa.Array,
    label_times: pa.Array | int,
    *,
    end_key: int,
    label_type: pa.DataType | None,
    is_deleted: IsDeleted | None = None,
) -> CheckedLabels:
    """Brings the columns of a label batch into order.

    Labels of deleted samples are left out rather than refused: whoever sends labels late cannot know of every deletion,
    and would otherwise repeat the batch for ever.

    Args:
        keys: [n] of any integer type.
        labels: [n]; null or NaN withdraws.
        label_times: [n], Unix seconds or an Arrow timestamp; or one time for all.
        end_key: of the dataset.
        label_type: the dataset's; None if no label is known yet.

    Raises:
        InvalidInputError: a key is missing, negative, unknown or there twice, a label is no label of this dataset, or a
            label time is missing; the message names the first ones and says how many there are.
    """
    numbers = _checked_keys(keys, end_key)
    try:
        values = normal_labels(labels)
        if label_type is not None:
            values = as_type(values, label_type)
        times = _times(label_times, numbers)
    except CorruptDataError as error:
        raise InvalidInputError(error.message) from error
    order = np.argsort(numbers, kind="stable")
    _refuse(numbers[order][1:][np.diff(numbers[order]) == 0], "occur more than once; send each key once a batch")
    kept = order if is_deleted is None else order[~is_deleted(numbers[order])]
    return CheckedLabels(numbers[kept], values.take(pa.array(kept)), times[kept], len(order) - len(kept))


def count_corrected(new: pa.Array, old: pa.Array) -> int:
    """How many samples had a label before and get another one, or none.

    Args:
        new: labels [n] of a batch; of any type if ``old`` are all missing.
        old: labels [n] known before it.
    """
    if old.null_count == len(old):
        return 0
    return int(corrected(old, as_type(new, old.type)).sum())


def _checked_keys(keys: pa.Array, end_key: int) -> Int64Array:
    if len(keys) and not pa.types.is_integer(keys.type):
        raise InvalidInputError(f"column 'key' is {keys.type}; expected int64")
    if keys.null_count:
        rows = np.flatnonzero(keys.is_null().to_numpy(zero_copy_only=False))
        raise InvalidInputError(
            f"column 'key' is missing in {_counted(rows, 'row')}; say which sample each label is of"
        )
    try:
        numbers: Int64Array = keys.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"column 'key' is {keys.type}: {error}; expected int64") from error
    expected = f"expected 0 <= key < {end_key}" if end_key else "the dataset has no samples yet"
    _refuse(numbers[(numbers < 0) | (numbers >= end_key)], f"do not exist; {expected}")
    return numbers


def _times(label_times: pa.Array | int, keys: Int64Array) -> Int64Array:
    if isinstance(label_times, int):
        return np.full(len(keys), label_times, dtype=np.int64)
    if label_times.null_count:
        without = keys[label_times.is_null().to_numpy(zero_copy_only=False)]
        raise InvalidInputError(
            f"label_time is missing for {_counted(without, 'key')}; give every label a time, or leave the column out "
            "to take the time of the call"
        )
    return unix_seconds(label_times, "label_time")


def _refuse(wrong: npt.NDArray[np.int64], why: str) -> None:
    if len(wrong):
        raise InvalidInputError(f"{_counted(np.unique(wrong), 'key')} {why}; nothing was written")


def _counted(items: npt.NDArray[np.int64], what: str) -> str:
    """``1 key: 7`` or ``9 keys: 1, 2, 3, 4, 5 …``."""
    named = ", ".join(map(str, items[:_NAMED].tolist()))
    more = " …" if len(items) > _NAMED else ""
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'} ({named}{more})"
