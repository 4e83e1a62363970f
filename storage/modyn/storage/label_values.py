"""Label columns as values: put together from several sources, compared, turned into bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array

BoolArray = npt.NDArray[np.bool_]


def missing(labels: pa.Array) -> BoolArray:
    """Which labels are null, bool [n]."""
    if labels.null_count == 0:
        return np.zeros(len(labels), dtype=bool)
    mask: BoolArray = labels.is_null().to_numpy(zero_copy_only=False)
    return mask


def overlaid(labels: pa.Array, kept: BoolArray, overlays: Sequence[tuple[Int64Array, pa.Array]]) -> pa.Array:
    """Labels with others in the place of some.

    Args:
        labels: [n].
        kept: bool [n], which of them are shown; the others become null.
        overlays: places [k] and the labels [k] that go there; each place at most once.
    """
    if pa.types.is_int64(labels.type) or pa.types.is_float64(labels.type):
        values, valid = _numbers(labels).copy(), kept.copy()
        for places, others in overlays:
            values[places] = _numbers(others)
            valid[places] = ~missing(others)
        return (
            pa.array(np.where(valid, values, values.dtype.type(0)), mask=~valid)
            if not valid.all()
            else pa.array(values)
        )
    source, valid = np.arange(len(labels), dtype=np.int64), kept.copy()
    end = len(labels)
    for places, others in overlays:
        source[places] = np.arange(end, end + len(others))
        valid[places] = True
        end += len(others)
    joined = pa.concat_arrays([labels, *(others for _, others in overlays)])
    return joined.take(pa.array(source, mask=~valid))


def corrected(old: pa.Array, new: pa.Array) -> BoolArray:
    """Which samples had a label before and have another one, or none, now: bool [n].

    Args:
        old, new: labels [n] of one type.
    """
    had = ~missing(old)
    both = had & ~missing(new)
    if not both.any():
        return had
    places = np.flatnonzero(both)
    rows = pa.array(places)
    changed = had & ~both
    changed[places] = _differ(old.take(rows), new.take(rows))
    return changed


def _differ(old: pa.Array, new: pa.Array) -> BoolArray:
    """Which non-null labels differ, bool [n]."""
    if not pa.types.is_list(old.type):
        return _flags(pc.not_equal(old, new))
    lengths = pc.list_value_length(old).to_numpy().astype(np.int64)
    result: BoolArray = lengths != pc.list_value_length(new).to_numpy()
    same = np.flatnonzero(~result)
    left, right = (labels.take(pa.array(same)).flatten() for labels in (old, new))
    equal = pc.coalesce(pc.equal(left, right), pc.and_(left.is_null(), right.is_null()))
    wrong = np.concatenate(([0], np.cumsum(~_flags(equal))))  # items that differ, up to each place
    ends = np.cumsum(lengths[same])
    result[same] = wrong[ends] > wrong[ends - lengths[same]]
    return result


def label_bytes(labels: pa.Array) -> Iterator[memoryview]:
    """Bytes that differ where labels of one type differ."""
    yield (~missing(labels)).data.cast("B")
    if not pa.types.is_list(labels.type):
        yield _numbers(labels).data.cast("B")
        return
    lengths = pc.list_value_length(labels).fill_null(0).to_numpy().astype(np.int64)
    items = labels.flatten()
    yield lengths.data.cast("B")
    yield (~missing(items)).data.cast("B")
    yield _numbers(items).data.cast("B")


def _numbers(values: pa.Array) -> npt.NDArray[Any]:
    """int64 or float64 with zeros under the nulls, [n]."""
    if values.null_count:
        values = values.fill_null(0)
    numbers: npt.NDArray[Any] = values.to_numpy()
    return numbers


def _flags(values: pa.Array) -> BoolArray:
    flags: BoolArray = values.to_numpy(zero_copy_only=False)
    return flags
