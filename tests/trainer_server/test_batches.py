from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.core.keysets import KeySet
from modyn.models.decoding import Decoder
from modyn.proto.selector_pb2 import DescribeTrainingSetRequest
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.training_sets import TrainingSamples, read_training_set
from tests.helpers.training import TrainingServer

N = 53
KEYS = np.random.default_rng(1).permutation(80)[:N]
WEIGHTS = np.linspace(0.5, 2, N).astype(np.float32)


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    labels = pa.array([None if key % 9 == 0 else key for key in range(80)], pa.int64())
    return server.dataset(labels, x=np.arange(80, dtype=np.float32))


def source(server: TrainingServer, dataset: str, **changes: object) -> BatchSource:
    options = {"batch_size": 8, "drop_last": False, "shuffle": (3, 1), **changes}
    samples = TrainingSamples(KeySet.from_array(KEYS), options.pop("weights", WEIGHTS))  # type: ignore[arg-type]
    decoder = Decoder(DataSection(dataset_id=dataset), None)
    return BatchSource(server.peers.storage, dataset, samples, decoder, **options)  # type: ignore[arg-type]


def epochs(source: BatchSource, count: int = 3) -> list[list[Batch]]:
    return [list(source.epoch(epoch, last=epoch == count - 1)) for epoch in range(count)]


@pytest.mark.parametrize("shuffle", [None, (3, 1)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_labelled_sample_once_an_epoch_with_its_weight(
    server: TrainingServer, dataset: str, shuffle: tuple[int, int] | None, drop_last: bool
) -> None:
    weight_of = dict(zip(KEYS.tolist(), WEIGHTS, strict=True))
    orders = []
    for batches in epochs(source(server, dataset, shuffle=shuffle, drop_last=drop_last)):
        keys = np.concatenate([batch.keys for batch in batches])
        orders.append(keys.tolist())
        assert len(set(orders[-1])) == len(keys)
        labelled = set(KEYS[KEYS % 9 != 0].tolist())
        assert set(orders[-1]) <= labelled
        if not drop_last:
            assert set(orders[-1]) == labelled
        for batch in batches:
            assert isinstance(batch.inputs, type(batch.labels))
            assert batch.inputs[:, 0].tolist() == batch.labels.tolist() == batch.keys.tolist()
            assert batch.weights is not None
            assert batch.weights.tolist() == [weight_of[key] for key in batch.keys.tolist()]
    assert (orders[0] == orders[1]) == (shuffle is None)


def test_kept_in_memory_or_read_again_is_the_same(server: TrainingServer, dataset: str) -> None:
    kept, again = source(server, dataset), source(server, dataset, keep_bytes=0)
    for ours, theirs in zip(epochs(kept), epochs(again), strict=True):
        assert [batch.keys.tolist() for batch in ours] == [batch.keys.tolist() for batch in theirs]
        assert [batch.labels.tolist() for batch in ours] == [batch.labels.tolist() for batch in theirs]
    assert kept.num_unlabelled == again.num_unlabelled == (KEYS % 9 == 0).sum()


def test_an_epoch_may_be_left_early(server: TrainingServer, dataset: str) -> None:
    batches = source(server, dataset, keep_bytes=0).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_weights_that_make_no_sense_are_refused(server: TrainingServer, dataset: str, bad: float) -> None:
    weights = WEIGHTS.copy()
    weights[np.flatnonzero(KEYS % 9)[0]] = bad
    odd = source(server, dataset, weights=weights)
    with pytest.raises(InvalidInputError, match="weights that are negative or not finite"):
        list(odd.epoch(0))


def test_a_training_set_shorter_than_it_says_is_corrupt(server: TrainingServer, dataset: str) -> None:
    digest = server.sets.put(dataset, KEYS)
    described = server.peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest=digest))
    assert read_training_set(described, server.peers).keys.to_array().tolist() == KEYS.tolist()
    described.num_samples += 1
    with pytest.raises(CorruptDataError, match=f"has {N} samples; expected {N + 1}"):
        read_training_set(described, server.peers)
