"""Gathering rows, against Python lists."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.errors import CorruptDataError
from modyn.core.keysets import KeyRange, KeySet
from modyn.storage import copying, files
from modyn.storage.gather import Picks, as_slice, gather, gather_column, rows_of_ranges, take
from modyn.storage.parts import FileColumn, Strided
from modyn.storage.values import values_of
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
    "wide_binary": (pa.binary(20), st.binary(min_size=20, max_size=20)),
    "large_string": (pa.large_string(), st.text(max_size=30)),
    "long_binary": (pa.binary(), st.binary(max_size=40)),
    "decimal": (pa.decimal128(5, 1), st.integers(0, 999).map(lambda n: decimal.Decimal(n) / 10)),
    "matrix": (pa.list_(pa.list_(pa.int16(), 2), 2), st.just([[1, 2], [3, 4]])),
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


def random_picks(rng: np.random.Generator, lengths: list[int], count: int, order: str) -> Picks:
    parts = rng.integers(0, len(lengths), count)
    if order == "grouped":
        parts.sort()
    if order == "one part":
        parts[:] = parts[0]
    rows = (rng.random(count) * np.array(lengths)[parts]).astype(np.int64)
    if order == "runs":
        parts = np.repeat(np.arange(len(lengths)), lengths)
        rows = np.concatenate([np.arange(length) for length in lengths])
    return Picks(rows, parts)


def values_at(lists: list[list[Any]], picks: Picks) -> list[Any]:
    parts = [picks.part] * len(picks) if picks.parts is None else picks.parts.tolist()
    return [lists[part][row] for part, row in zip(parts, picks.rows.tolist(), strict=True)]


@pytest.mark.parametrize("width", [4, 8, 20, 3000])
@pytest.mark.parametrize("order", ["scattered", "grouped", "one part", "runs"])
@pytest.mark.parametrize("limit", [0, 2**31 - 1])
def test_values_at_distances_in_files(width: int, order: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed-size records: values lie apart, from part to part differently."""
    monkeypatch.setattr(copying, "MAX_REFERENCED_BYTES", limit)
    rng = np.random.default_rng(width)
    lengths = [5, 1, 30, 7]
    columns, lists = [], []
    for length in lengths:
        records = rng.integers(0, 256, (length, width + int(rng.integers(0, 9))), dtype=np.uint8)
        columns.append(values_of(Strided(pa.binary(width), records[:, -width:]), pa.binary(width)))
        lists.append([bytes(record[-width:]) for record in records])
    picks = random_picks(rng, lengths, 50, order)
    found = gather_column(columns, picks, pa.binary(width))
    assert found.to_pylist() == values_at(lists, picks)
    assert gather_column(columns, picks.cut(3, 9), pa.binary(width)).to_pylist() == values_at(lists, picks)[3:9]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.bool_(), pa.list_(pa.int64())])
def test_a_part_may_have_no_values_yet(kind: pa.DataType) -> None:
    """As labels of segments that were written before any was known."""
    known = pa.array(
        [[1], None, [2]] if pa.types.is_list(kind) else [1, None, 0] if kind != pa.string() else ["a", "", None]
    )
    lists = [known.cast(kind).to_pylist(), [None] * 4]
    columns = [values_of(known.cast(kind), kind), values_of(pa.nulls(4), kind)]
    for order in ("scattered", "grouped", "one part"):
        picks = random_picks(np.random.default_rng(3), [3, 4], 20, order)
        found = gather_column(columns, picks, kind)
        found.validate(full=True)
        assert found.type == kind
        assert found.to_pylist() == values_at(lists, picks)


@pytest.mark.parametrize("slow", [False, True])
def test_samples_that_are_files(tmp_path: Path, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if slow:
        monkeypatch.setattr(files, "SLOW_SECONDS", 0.0)
        monkeypatch.setattr(files, "SLOW_SECONDS_PER_BYTE", 0.0)
    rng = np.random.default_rng(1)
    columns, lists = [], []
    for part, length in enumerate((4, 30)):
        contents = [rng.bytes(int(size)) for size in rng.integers(0, 2000, length)]
        paths = [tmp_path / f"{part}-{number}" for number in range(length)]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        stats = [path.stat() for path in paths]
        sizes = np.array([stat.st_size for stat in stats])
        column = FileColumn([*map(str, paths)], sizes, np.array([stat.st_mtime_ns for stat in stats]))
        columns.append(values_of(column, pa.binary()))
        lists.append(contents)
    picks = random_picks(rng, [4, 30], 60, "scattered")
    assert gather_column(columns, picks, pa.binary()).to_pylist() == values_at(lists, picks)
    changed = tmp_path / "1-3"
    changed.write_bytes(b"other")
    with pytest.raises(CorruptDataError, match=f"{changed} was changed in place"):
        gather_column(columns, Picks(np.arange(30), np.ones(30, dtype=np.int64)), pa.binary())
    changed.unlink()
    with pytest.raises(CorruptDataError, match=f"{changed} cannot be read"):
        gather_column(columns, Picks(np.arange(30), np.ones(30, dtype=np.int64)), pa.binary())


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
