"""Gathering rows, against Python lists."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.keysets import KeyRange, KeySet
from modyn.storage.gather import as_slice, gather, rows_of_ranges, take
from modyn.storage.view import KeyCursor

TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int64": (pa.int64(), st.integers(-(2**40), 2**40)),
    "uint8": (pa.uint8(), st.integers(0, 255)),
    "float32": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "bool": (pa.bool_(), st.booleans()),
    "string": (pa.string(), st.text(max_size=8)),
    "binary": (pa.binary(), st.binary(max_size=8)),
    "fixed_binary": (pa.binary(5), st.binary(min_size=5, max_size=5)),
    "list": (pa.list_(pa.int32()), st.lists(st.integers(-5, 5), max_size=4)),
    "fixed_list": (pa.list_(pa.float64(), 3), st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=3)),
    "timestamp": (pa.timestamp("us"), st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2030, 1, 1))),
    "date": (pa.date32(), st.dates(datetime.date(1990, 1, 1), datetime.date(2030, 1, 1))),
}


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_of_several_batches_equal_python_lists(kind: str, data: st.DataObject) -> None:
    arrow_type, values = TYPES[kind]
    maybe = st.one_of(st.none(), values) if data.draw(st.booleans()) else values
    lists = data.draw(st.lists(st.lists(maybe, min_size=1, max_size=12), min_size=1, max_size=4))
    parts = []
    for items in lists:  # views into longer columns, as memory-mapped segments are sliced
        padded = pa.array([items[0], *items, items[-1]], arrow_type)
        parts.append(pa.record_batch([padded.slice(1, len(items))], names=["v"]))
    place = st.integers(0, len(lists) - 1).flatmap(
        lambda part: st.tuples(st.just(part), st.integers(0, len(lists[part]) - 1))
    )
    places = data.draw(st.lists(place, max_size=30))
    which = np.array([part for part, _ in places], dtype=np.int64)
    rows = np.array([row for _, row in places], dtype=np.int64)
    found = gather(parts, which, rows)
    assert found.schema == parts[0].schema
    assert found.column(0).to_pylist() == [parts[part].column(0)[row].as_py() for part, row in places]
    found.validate(full=True)


def test_consecutive_rows_are_not_copied() -> None:
    batch = pa.record_batch({"v": np.arange(100)})
    view = take(batch, np.arange(10, 20))
    assert view.column(0).buffers()[1].address == batch.column(0).buffers()[1].address
    assert view.column(0).to_pylist() == list(range(10, 20))


@given(st.lists(st.integers(0, 20), max_size=10))
def test_slices_are_recognised(rows: list[int]) -> None:
    found = as_slice(np.array(rows, dtype=np.int64))
    if isinstance(found, slice):
        assert list(range(found.start, found.stop)) == rows
    else:
        assert not rows or rows != list(range(rows[0], rows[0] + len(rows)))


pieces = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=8)


@given(pieces)
def test_ranges_are_expanded(drawn: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in drawn], dtype=np.int64)
    ends = np.array([start + length for start, length in drawn], dtype=np.int64)
    expected = [key for start, length in drawn for key in range(start, start + length)]
    assert rows_of_ranges(starts, ends).tolist() == expected


@given(pieces, st.lists(st.integers(1, 7), min_size=1, max_size=4), st.booleans())
def test_a_cursor_walks_over_all_keys(drawn: list[tuple[int, int]], sizes: list[int], as_array: bool) -> None:
    ranges, position = [], 0
    for gap, length in drawn:
        ranges.append(KeyRange(position + gap, position + gap + length))
        position += gap + length
    keys = KeySet(ranges=tuple(ranges))
    expected = keys.to_array().tolist()
    cursor = KeyCursor(KeySet(array=keys.to_array()) if as_array else keys)
    found: list[int] = []
    turn = 0
    while len(chunk := cursor.next(sizes[turn % len(sizes)])):
        assert len(chunk) <= sizes[turn % len(sizes)]
        found += chunk.tolist()
        turn += 1
    assert found == expected
