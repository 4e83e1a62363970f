from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KEYS_PER_MESSAGE, KeyRange, KeySet, ranges_from_proto, ranges_to_proto, run_bounds
from modyn.proto import common_pb2
from tests.helpers.keys import key_sets, ranges


@given(keys=key_sets())
def test_length_and_protobuf_round_trip(keys: KeySet) -> None:
    array = keys.to_array()
    assert array.dtype == np.int64
    assert len(keys) == len(array)
    assert KeySet.from_proto(keys.to_proto()).to_array().tolist() == array.tolist()
    assert KeySet.concat(map(KeySet.from_proto, keys.to_protos())).to_array().tolist() == array.tolist()


@given(parts=st.lists(key_sets(), max_size=5))
def test_concat_is_concatenation(parts: list[KeySet]) -> None:
    expected = [key for part in parts for key in part.to_array().tolist()]
    assert KeySet.concat(parts).to_array().tolist() == expected


@given(drawn=ranges())
def test_ascending_ranges_stay_ranges_and_neighbours_merge(drawn: tuple[KeyRange, ...]) -> None:
    merged = KeySet.concat(KeySet(ranges=(r,)) for r in drawn).ranges
    assert merged is not None
    assert all(a.end < b.start for a, b in pairwise(merged))
    assert KeySet(ranges=merged).to_array().tolist() == KeySet(ranges=drawn).to_array().tolist()


@given(keys=st.lists(st.integers(0, 50), max_size=40))
def test_from_array_keeps_every_key_and_its_place(keys: list[int]) -> None:
    found = KeySet.from_array(keys)
    assert (found.ranges is None) != (found.array is None)
    assert found.to_array().tolist() == keys


@given(keys=st.sets(st.integers(0, 80), max_size=60))
def test_runs_are_maximal(keys: set[int]) -> None:
    ascending = sorted(keys)
    bounds = run_bounds(np.array(ascending, dtype=np.int64))
    assert bounds is not None
    runs = [KeyRange(*run) for run in np.stack(bounds, axis=1).tolist()]
    assert [key for run in runs for key in range(run.start, run.end)] == ascending
    assert all(a.end < b.start for a, b in pairwise(runs))


@pytest.mark.parametrize("keys", [[1, 1], [2, 1], [0, 1, 2, 2]])
def test_keys_that_do_not_ascend_have_no_runs(keys: list[int]) -> None:
    assert run_bounds(np.array(keys, dtype=np.int64)) is None


def test_large_sets_travel_in_pieces() -> None:
    keys = KeySet(array=np.arange(KEYS_PER_MESSAGE * 2 + 5)[::-1].copy())
    sizes = [len(message.keys) // 8 for message in keys.to_protos()]
    assert sizes == [KEYS_PER_MESSAGE, KEYS_PER_MESSAGE, 5]


def test_many_scattered_keys_are_no_slower_than_few() -> None:
    keys = np.arange(0, 6_000_000, 2, dtype=np.int64)
    started = time.process_time()
    assert KeySet.from_array(keys).array is not None
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("wrong", [[(3, 3)], [(5, 2)], [(-1, 2)], [(5, 8), (7, 9)], [(5, 8), (0, 2)]], ids=str)
def test_ranges_from_elsewhere_are_checked(wrong: list[tuple[int, int]]) -> None:
    message = common_pb2.KeyRanges(ranges=[common_pb2.KeyRange(start=a, end=b) for a, b in wrong])
    with pytest.raises(InvalidInputError, match="expected ascending ranges"):
        ranges_from_proto(message)


@given(drawn=ranges())
def test_ranges_round_trip(drawn: tuple[KeyRange, ...]) -> None:
    assert ranges_from_proto(ranges_to_proto(drawn)) == drawn


def test_packed_keys_of_odd_length_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="multiple of 8"):
        KeySet.from_proto(common_pb2.KeySet(keys=b"1234567"))
