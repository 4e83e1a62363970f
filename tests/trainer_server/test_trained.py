"""The record of what a training really used."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.selector.reader import describe_sample_columns, read_sample_columns
from modyn.trainer_server.trained import TrainedRecord
from tests.helpers.services import StorageAndSelector

Row = tuple[int, float]
Epoch = list[list[Row]]

WEIGHTS = st.sampled_from([1.0, 1.0, 0.5, 2.0, 1e-20, 3e30])
BATCH = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 300, 70_000, 2**40]), WEIGHTS), max_size=5)
EPOCH = st.lists(BATCH, max_size=3)


@pytest.fixture(scope="module")
def services() -> Iterator[StorageAndSelector]:
    with tempfile.TemporaryDirectory(prefix="modyn-") as folder:
        services = StorageAndSelector.start(Path(folder) / "s")
        yield services
        services.close()


def expected(epochs: list[Epoch], auxiliary: list[int]) -> list[tuple[int, int, float]]:
    """The rule, slowly."""
    rows, before = [], None
    for number, batches in enumerate(epochs):
        trained = sorted((key, float(np.float32(weight))) for batch in batches for key, weight in batch)
        if trained and trained != before:
            rows += [(number, key, weight) for key, weight in trained]
        before = trained
    ever = {key for _, key, _ in rows}
    return [(-1, key, 1.0) for key in sorted(set(auxiliary) - ever)] + rows


def record_of(epochs: list[Epoch], auxiliary: list[int], *, ends: bool = True) -> TrainedRecord:
    record = TrainedRecord()
    for number, batches in enumerate(epochs):
        for batch in batches:
            keys = np.array([key for key, _ in batch], dtype=np.int64)
            weights = np.array([weight for _, weight in batch], dtype=np.float32)
            record.add(keys, None if (weights == 1).all() else weights)
            keys[:], weights[:] = -7, -7  # a loader may use its arrays again
        if ends or number + 1 < len(epochs):
            record.end_epoch()
    record.add_auxiliary(np.array(auxiliary, dtype=np.int64))
    return record


@given(epochs=st.lists(EPOCH, max_size=4), auxiliary=st.lists(st.sampled_from([0, 2, 9, 2**40])), ends=st.booleans())
@settings(max_examples=40)
def test_a_record_reads_back(
    services: StorageAndSelector, epochs: list[Epoch], auxiliary: list[int], ends: bool
) -> None:
    stub = services.peers.selector
    digest = record_of(epochs, auxiliary, ends=ends).store(stub, "d")
    table = read_sample_columns(stub, digest)
    assert table.schema.types == [pa.int32(), pa.int64(), pa.float32()]
    assert table.column_names == ["epoch", "key", "weight"]
    assert list(zip(*table.to_pydict().values(), strict=True)) == expected(epochs, auxiliary)
    described = describe_sample_columns(stub, digest)
    assert (described.dataset, described.kind) == ("d", "trained")


@given(repeats=st.integers(1, 4), epoch=EPOCH.filter(any), seed=st.integers(0, 99))
def test_epochs_of_the_same_samples_are_stored_once(repeats: int, epoch: Epoch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [row for batch in epoch for row in batch]
    shuffled: list[Epoch] = [[[rows[i] for i in rng.permutation(len(rows))]] for _ in range(repeats)]
    assert list(record_of(shuffled, []).batches()) == list(record_of([epoch], []).batches())


def test_a_large_record_comes_in_batches_of_a_megabyte() -> None:
    record, keys = TrainedRecord(), np.random.default_rng(0).permutation(200_000)
    for part in np.array_split(keys, 100):
        record.add(part, None)
    record.end_epoch()
    record.add(keys[:150_000], np.full(150_000, 0.5, np.float32))
    batches = list(record.batches())
    assert max(batch.nbytes for batch in batches) <= 1 << 20
    table = pa.Table.from_batches(batches)
    assert table["epoch"].to_numpy().tolist() == [0] * 200_000 + [1] * 150_000
    assert np.array_equal(table["key"].to_numpy(), np.concatenate((np.arange(200_000), np.sort(keys[:150_000]))))
    assert np.array_equal(table["weight"].to_numpy(), np.repeat(np.array([1, 0.5], np.float32), [200_000, 150_000]))


def test_kept_epochs_take_little_memory() -> None:
    record = TrainedRecord()
    rng = np.random.default_rng(0)
    for _ in range(3):
        record.add(np.flatnonzero(rng.random(100_000) < 0.5), None)
        record.end_epoch()
    kept = sum(samples.steps.nbytes + samples.weights.nbytes for _, samples in record._kept)
    assert kept < 3 * 51_000
