from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.storage.batches import SampleBatch
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.kept import Kept
from modyn.trainer_server.orders import Listed


def samples(keys: Int64Array) -> SampleBatch:
    """Everything about a sample follows from its key."""
    labels = pa.array([None if key % 3 == 0 else int(key) for key in keys], pa.int64())
    payload = {"key": pa.array([str(key).encode() for key in keys], pa.binary()), "x": pa.array(keys / 2)}
    return SampleBatch(keys, labels, keys * 10, payload)


def tensors(keys: Int64Array) -> Batch:
    return Batch(
        keys, {"x": torch.from_numpy(keys / 2)[:, None], "y": torch.from_numpy(-keys)}, torch.from_numpy(keys), None
    )


def said(rows: SampleBatch | Batch) -> list[object]:
    if isinstance(rows, Batch):
        assert isinstance(rows.inputs, dict)
        return [rows.keys.tolist(), rows.labels.tolist(), *(part.tolist() for part in rows.inputs.values())]
    columns = [array.to_pylist() for array in rows.columns.values()]
    return [rows.keys.tolist(), rows.labels.to_pylist(), rows.timestamps.tolist(), *columns]


@given(
    n=st.integers(1, 40),
    read=st.integers(1, 12),
    size=st.integers(1, 12),
    begin=st.integers(0, 45),
    seed=st.integers(0, 99),
    shuffled=st.booleans(),
    parsed=st.booleans(),
)
def test_serves_any_order_of_what_was_read_in_another(
    n: int, read: int, size: int, begin: int, seed: int, shuffled: bool, parsed: bool
) -> None:
    make = tensors if parsed else samples
    rng = np.random.default_rng(seed)
    training_set = rng.permutation(1000)[:n]  # keys
    first, second = rng.permutation(n), rng.permutation(n)
    kept: Kept[Any] = Kept(Batch.join if parsed else SampleBatch.join)
    collected = training_set[first] if shuffled else training_set
    for start in range(0, n, read):
        places = first[start : start + read] if shuffled else None
        assert kept.add(make(collected[start : start + read]), places)
    kept.finish(n)
    for order in (second, None):
        wanted = (training_set if order is None else training_set[order])[begin:]
        served = list(kept.blocks(None if order is None else Listed(order), size, begin))
        assert [len(block) for _, block in served] == [min(size, n - start) for start in range(begin, n, size)]
        for start, (places, block) in zip(range(0, n, size), served, strict=False):
            assert said(block) == said(make(wanted[start : start + size]))
            assert places is None or np.array_equal(training_set[places], block.keys)


def test_what_is_served_is_a_copy() -> None:
    kept = Kept(Batch.join)
    assert kept.add(tensors(np.arange(5)), None)
    kept.finish(5)
    for _ in range(2):
        [(_, block)] = kept.blocks(None, 9)
        assert block.labels.tolist() == [0, 1, 2, 3, 4]
        block.labels.zero_()


def test_too_much_is_let_go() -> None:
    kept = Kept(SampleBatch.join, max_bytes=1000)
    assert kept.add(samples(np.arange(10)), None)
    assert not kept.add(samples(np.arange(100)), None)
