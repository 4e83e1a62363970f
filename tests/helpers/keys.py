"""Key sets for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from modyn.core.keysets import KeyRange, KeySet


@st.composite
def ranges(draw: st.DrawFn, max_ranges: int = 6) -> tuple[KeyRange, ...]:
    """Ascending, disjoint, non-empty ranges; neighbours may touch."""
    steps = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), max_size=max_ranges))
    result, position = [], 0
    for gap, length in steps:
        result.append(KeyRange(position + gap, position + gap + length))
        position += gap + length
    return tuple(result)


def key_sets() -> st.SearchStrategy[KeySet]:
    """Distinct keys: as ranges, or as an array in any order."""
    arrays = st.lists(st.integers(0, 200), unique=True, max_size=60)
    return st.one_of(
        ranges().map(lambda drawn: KeySet(ranges=drawn)),
        arrays.map(lambda keys: KeySet(array=np.array(keys, dtype=np.int64))),
    )
