from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.storage.reader import SampleBatch
from modyn.trainer_server.kept import KeptSamples


def samples(keys: Int64Array) -> SampleBatch:
    """Everything about a sample follows from its key."""
    labels = pa.array([None if key % 3 == 0 else int(key) for key in keys], pa.int64())
    payload = {"key": pa.array([str(key).encode() for key in keys], pa.binary()), "x": pa.array(keys / 2)}
    return SampleBatch(keys, labels, keys * 10, payload)


@given(
    n=st.integers(1, 40),
    read=st.integers(1, 12),
    size=st.integers(1, 12),
    seed=st.integers(0, 99),
    shuffled=st.booleans(),
)
def test_serves_any_order_of_what_was_read_in_another(n: int, read: int, size: int, seed: int, shuffled: bool) -> None:
    rng = np.random.default_rng(seed)
    training_set = rng.permutation(1000)[:n]  # keys
    first, second = rng.permutation(n), rng.permutation(n)
    kept = KeptSamples()
    collected = training_set[first] if shuffled else training_set
    for start in range(0, n, read):
        places = first[start : start + read] if shuffled else None
        assert kept.add(samples(collected[start : start + read]), places)
    kept.finish(n)
    for order in (second, None):
        wanted = training_set if order is None else training_set[order]
        served = [batch for _, batch in kept.batches(order, size)]
        assert [len(batch) for batch in served] == [min(size, n - start) for start in range(0, n, size)]
        for start, batch in zip(range(0, n, size), served, strict=True):
            expected = samples(wanted[start : start + size])
            np.testing.assert_array_equal(batch.keys, expected.keys)
            np.testing.assert_array_equal(batch.timestamps, expected.timestamps)
            assert batch.labels.equals(expected.labels)
            assert {name: array.to_pylist() for name, array in batch.columns.items()} == {
                name: array.to_pylist() for name, array in expected.columns.items()
            }


def test_too_much_is_let_go() -> None:
    kept = KeptSamples(max_bytes=1000)
    assert kept.add(samples(np.arange(10)), None)
    assert not kept.add(samples(np.arange(100)), None)
