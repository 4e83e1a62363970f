"""What columns may look like: payload schemas, labels and times of files and batches, brought to one form.

Problems are raised as :class:`CorruptDataError` whose message names the column, what was found and what was expected;
the scan turns it into the reason of a quarantined file, `Append` into the caller's error.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError

SECONDS_PER_DAY = 86_400
_UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def plain_payload(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A payload without encodings that differ from file to file (dictionaries, extensions, views) and metadata.

    Raises:
        CorruptDataError: there is no column, or two have the same name.
    """
    names = batch.schema.names
    if not names:
        raise CorruptDataError("there is no payload column; expected at least one beside label and timestamp")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CorruptDataError(f"column name {twice[0]!r} occurs more than once; column names must differ")
    return pa.record_batch([_plain(column) for column in batch.columns], names=names)


def conform(batch: pa.RecordBatch, expected: pa.Schema) -> pa.RecordBatch:
    """A plain payload with exactly the expected columns, in the expected order.

    Raises:
        CorruptDataError: a column is missing, is new, or has another type.
    """
    columns = []
    for field in expected:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            raise CorruptDataError(
                f"column {field.name!r} is missing; expected {field.name}: {field.type}, found {_listed(batch.schema)}"
            )
        column = batch.column(index)
        if pa.types.is_null(column.type):
            column = column.cast(field.type)
        if column.type != field.type:
            raise CorruptDataError(f"column {field.name!r} is {column.type}; expected {field.type} as in this dataset")
        columns.append(column)
    unknown = [name for name in batch.schema.names if expected.get_field_index(name) < 0]
    if unknown:
        found = batch.schema.field(unknown[0]).type
        raise CorruptDataError(
            f"column {unknown[0]!r} ({found}) is not in this dataset; expected {_listed(expected)}; "
            "leave it out (for files: key `drop` or `columns` of the source) or start a new dataset"
        )
    return pa.record_batch(columns, schema=expected)


def normal_labels(labels: pa.Array, column: str = "label") -> pa.Array:
    """Labels as int64, float64, a list of either, or ``null`` where no value tells; NaN counts as missing.

    Raises:
        CorruptDataError: the column holds something else.
    """
    labels = _plain(labels)
    kind = labels.type
    try:
        if pa.types.is_null(kind):
            return labels
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            return labels.cast(pa.int64())
        if pa.types.is_floating(kind):
            values = labels.cast(pa.float64())
            return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            item = pa.int64() if pa.types.is_integer(kind.value_type) else pa.float64()
            return labels.cast(pa.list_(pa.field("item", item)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorruptDataError(f"label column {column!r} ({kind}): {error}") from error
    raise CorruptDataError(f"label column {column!r} is {kind}; expected numbers (class index or target value)")


def cast_labels(labels: pa.Array, expected: pa.DataType) -> pa.Array:
    """Labels as the dataset's label type, if that loses nothing.

    Raises:
        CorruptDataError: it would.
    """
    if labels.type == expected:
        return labels
    try:
        return labels.cast(expected)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorruptDataError(f"labels are {labels.type}; expected {expected} as in this dataset ({error})") from error


def unix_seconds(times: pa.Array, column: str = "timestamp") -> Int64Array:
    """Event times, int64 [n], Unix seconds (fractions are cut off downwards); times without zone are UTC.

    Raises:
        CorruptDataError: a time is missing, or the column is neither numbers nor times.
    """
    times = _plain(times)
    if times.null_count:
        row = int(np.flatnonzero(np.asarray(times.is_null()))[0])
        raise CorruptDataError(f"timestamp column {column!r} has no value in row {row}; every sample needs a time")
    kind = times.type
    if len(times) == 0:
        return np.empty(0, dtype=np.int64)
    if pa.types.is_integer(kind):
        try:
            return _int64(times.cast(pa.int64()))
        except pa.ArrowInvalid as error:
            raise CorruptDataError(f"timestamp column {column!r} ({kind}): {error}; expected Unix seconds") from error
    if pa.types.is_floating(kind):
        values = np.floor(times.cast(pa.float64()).to_numpy())
        if not (np.abs(values) < 2**62).all():
            raise CorruptDataError(f"timestamp column {column!r} has a value that is no time; expected Unix seconds")
        return np.asarray(values, dtype=np.int64)
    if pa.types.is_timestamp(kind):
        return np.floor_divide(_int64(times.view(pa.int64())), _UNITS_PER_SECOND[kind.unit])
    if pa.types.is_date(kind):
        return _int64(times.cast(pa.date32()).view(pa.int32()).cast(pa.int64())) * SECONDS_PER_DAY
    raise CorruptDataError(f"timestamp column {column!r} is {kind}; expected Unix seconds or an Arrow timestamp")


def canonical(column: pa.Array) -> pa.Array:
    """The same values with zeros under the nulls, so that equal columns have equal bytes."""
    kind = column.type
    if column.null_count == 0 or pa.types.is_null(kind):
        return column
    mask = np.asarray(column.is_null())
    if pa.types.is_boolean(kind):
        return pa.array(column.fill_null(False).to_numpy(zero_copy_only=False), mask=mask)
    if not pa.types.is_primitive(kind) or kind.bit_width not in _INTEGER_OF_WIDTH:
        return column
    integers = column.view(_INTEGER_OF_WIDTH[kind.bit_width])
    values = integers.fill_null(0).to_numpy()
    return pa.array(values, mask=mask).view(kind)


_INTEGER_OF_WIDTH = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def _plain(column: pa.Array) -> pa.Array:
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage)
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(column))
    if kind == pa.string_view():
        return column.cast(pa.string())
    if kind == pa.binary_view():
        return column.cast(pa.binary())
    return column


def _int64(values: pa.Array) -> Int64Array:
    array: Int64Array = values.to_numpy(zero_copy_only=False)
    return array


def _listed(schema: pa.Schema) -> str:
    shown = [f"{field.name}: {field.type}" for field in schema][:12]
    more = len(schema) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
