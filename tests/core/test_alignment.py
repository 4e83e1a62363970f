from __future__ import annotations

import numpy as np
import pytest

from modyn.core.alignment import positions_in
from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError


def found(requested: Int64Array, returned: Int64Array, size: int) -> list[int]:
    """Positions of everything returned, looked up batch by batch."""
    position, all_places = 0, []
    for start in range(0, len(returned), size):
        here = positions_in(requested, returned[start : start + size], position)
        places = np.arange(len(requested))[here]
        all_places += places.tolist()
        position = all_places[-1] + 1
    return all_places


@pytest.mark.parametrize("seed", range(60))
def test_positions_of_whatever_was_not_left_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    repeats = seed % 3 == 0
    requested = rng.integers(0, 50, n) if repeats else rng.permutation(300)[:n]
    deleted = rng.choice(300, int(rng.integers(0, 300)), replace=False)
    kept = np.flatnonzero(~np.isin(requested, deleted))
    assert found(requested, requested[kept], int(rng.integers(1, 20))) == kept.tolist()


def test_a_key_that_is_deleted_between_its_two_reads() -> None:
    requested = np.array([5, 1, 5, 2, 1, 3])
    assert found(requested, np.array([5, 1, 2, 3]), 4) == [0, 1, 3, 5]


def test_an_answer_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(CorruptDataError, match="sample 7, which was not asked for"):
        positions_in(np.array([1, 2, 3]), np.array([1, 7]), 0)
    with pytest.raises(CorruptDataError, match="sample 1, which was not asked for"):
        positions_in(np.array([1, 2, 3]), np.array([2, 1]), 0)
