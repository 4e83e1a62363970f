"""Kept rows against a plain dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modyn.supervisor.rowcache import KeyedRows, RowCache

keys = st.lists(st.integers(0, 30), max_size=12, unique=True)
steps = st.lists(st.tuples(st.sampled_from(["add", "forget"]), keys, st.integers(0, 12)), max_size=12)


@given(steps=steps, asked=keys)
def test_rows_are_those_that_were_added_first(steps: list[tuple[str, list[int], int]], asked: list[int]) -> None:
    rows, plain = KeyedRows(), dict[int, float]()
    for number, (step, some, count) in enumerate(steps):
        if step == "add":
            values = np.arange(len(some), dtype=np.float32) + 100 * number
            rows.add(np.array(some, dtype=np.int64), np.stack([values, -values], axis=1))
            plain |= {key: value for key, value in zip(some, values.tolist(), strict=True) if key not in plain}
        else:
            rows.forget_oldest(count)
            plain = dict(list(plain.items())[count:])
    places = rows.find(np.array(asked, dtype=np.int64))
    known = [key for key in asked if key in plain]
    assert (places >= 0).tolist() == [key in plain for key in asked]
    assert len(rows) == len(plain)
    if known:
        assert rows.take(places[places >= 0]).tolist() == [[plain[key], -plain[key]] for key in known]


def add(cache: RowCache, owner: str, start: int, end: int, kind: str = "embedding") -> None:
    cache.add(kind, owner, np.arange(start, end), np.zeros((end - start, 4), np.float32))


def count(cache: RowCache, owner: str, kind: str = "embedding") -> int:
    return int((cache.find(kind, owner, np.arange(1_000)) >= 0).sum())


def test_few_owners_of_each_kind_are_kept() -> None:
    cache = RowCache(10**9, owners=2)
    for owner in "abac":
        cache.find("embedding", owner, np.arange(3))
        add(cache, owner, 0, 5)
    add(cache, "b", 0, 5, kind="prediction")
    assert [count(cache, owner) for owner in "abc"] == [5, 0, 5]
    assert count(cache, "b", "prediction") == 5


def test_bytes_are_bounded_and_the_newest_rows_stay() -> None:
    cache = RowCache(100 * 32, owners=3)  # a row takes 16 bytes, its key and place too
    add(cache, "a", 0, 40)
    add(cache, "b", 0, 40)
    assert (count(cache, "a"), count(cache, "b")) == (40, 40)
    add(cache, "c", 0, 40)
    assert (count(cache, "a"), count(cache, "b"), count(cache, "c")) == (0, 40, 40)
    for start in range(40, 240, 40):
        add(cache, "c", start, start + 40)
        assert cache.nbytes <= 100 * 32
    assert count(cache, "b") == 0
    assert (cache.find("embedding", "c", np.arange(200, 240)) >= 0).all()
    add(cache, "c", 300, 700)
    assert cache.nbytes <= 100 * 32
