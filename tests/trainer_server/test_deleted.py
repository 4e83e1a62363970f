"""Samples that are deleted after they were selected, and samples that training may not see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.models.decoding import Decoder
from modyn.proto.storage_pb2 import TEST, LabelsAsOf, RegisterDatasetRequest
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.training_sets import TrainingSamples
from tests.helpers.labelling import delete, set_labels
from tests.helpers.training import TrainingServer

N = 60
KEYS = np.random.default_rng(2).permutation(80)[:N]
MODEL = {"id": "MLP", "config": {"in_features": 1, "hidden": [], "num_classes": 3}}


def new_dataset(server: TrainingServer) -> str:
    return server.dataset(np.arange(80) % 3, x=np.arange(80, dtype=np.float32))


def source(
    server: TrainingServer, dataset: str, weights: npt.NDArray[np.float32] | None = None, **changes: object
) -> BatchSource:
    options = {"batch_size": 8, "drop_last": False, "shuffle": (3, 1), **changes}
    samples = TrainingSamples(KeySet.from_array(KEYS), weights)
    decoder = Decoder(DataSection(dataset_id=dataset), None)
    return BatchSource(server.peers.storage, dataset, samples, decoder, **options)  # type: ignore[arg-type]


def keys_of(batches: list[Batch]) -> list[int]:
    return [key for batch in batches for key in batch.keys.tolist()]


@pytest.mark.parametrize("shuffle", [None, (3, 1)])
@pytest.mark.parametrize("keep_bytes", [0, 1 << 20])
@pytest.mark.parametrize("when", [0, 1])
def test_weights_stay_with_their_samples(
    server: TrainingServer, shuffle: tuple[int, int] | None, keep_bytes: int, when: int
) -> None:
    """Deleted before the first epoch, or before the second."""
    dataset = new_dataset(server)
    weights = (KEYS + 1).astype(np.float32)
    batches = source(server, dataset, weights, shuffle=shuffle, keep_bytes=keep_bytes)
    gone = {int(key) for key in KEYS[[0, 1, 7, 20, 21, 22, 23, 24, 25, 26, 27, 28, 59]]}
    for epoch in range(3):
        if epoch == when:
            delete(server.peers, dataset, list(gone))
        read = list(batches.epoch(epoch, last=epoch == 2))
        for batch in read:
            assert batch.weights is not None
            assert batch.weights.tolist() == (batch.keys + 1).tolist()
            assert batch.labels.tolist() == (batch.keys % 3).tolist()
        kept_in_memory = when == 1 and keep_bytes
        expected = set(KEYS.tolist()) - (gone if epoch >= when and not kept_in_memory else set())
        if epoch == 0 or epoch == 2:  # the second may have been on its way before
            assert sorted(keys_of(read)) == sorted(expected)
    assert batches.num_deleted == (0 if when == 1 and keep_bytes else len(gone))


def test_deletions_from_any_sets_of_any_epochs(server: TrainingServer) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        dataset = new_dataset(server)
        gone = rng.choice(80, int(rng.integers(0, 80)), replace=False)
        delete(server.peers, dataset, gone)
        batches = source(server, dataset, batch_size=int(rng.integers(1, 20)))
        expected = sorted(set(KEYS.tolist()) - set(gone.tolist()))
        orders = []
        for epoch in range(3):
            orders.append(keys_of(list(batches.epoch(epoch, last=epoch == 2))))
            assert sorted(orders[-1]) == expected
        assert len(expected) < 10 or orders[0] != orders[1]
        assert batches.num_deleted == N - len(expected)


def test_a_last_batch_is_trained_if_nothing_else_is_left(server: TrainingServer) -> None:
    dataset = new_dataset(server)
    delete(server.peers, dataset, KEYS[:-5])
    batches = source(server, dataset, drop_last=True)
    for epoch in range(2):
        assert sorted(keys_of(list(batches.epoch(epoch, last=epoch == 1)))) == sorted(KEYS[-5:].tolist())


def test_a_training_goes_on_with_what_is_left_and_says_so(server: TrainingServer) -> None:
    dataset = new_dataset(server)
    digest = server.sets.put(dataset, KEYS)
    delete(server.peers, dataset, KEYS[10:13])
    training = {"batch_size": 8, "epochs_per_trigger": 2}
    events = server.events(server.request(dataset, digest, model=MODEL, training=training))
    (notice,) = [event.notice for event in events if "deleted" in event.notice]
    assert notice == (
        f"trigger 0: 3 of the {N} samples of the training set were deleted after they had been selected; "
        "the model is trained on the rest"
    )
    result = events[-1].result
    assert (result.num_samples, result.samples_trained, result.batches) == (N, 2 * (N - 3), 16)
    progress = [event.progress.samples for event in events if event.WhichOneof("kind") == "progress"]
    assert progress[-1] == 2 * (N - 3)
    # The same as if they had never been in the set.
    alone = server.sets.put(dataset, np.delete(KEYS, slice(10, 13)))
    unshuffled = {**training, "shuffle": False}
    one = server.train(server.request(dataset, digest, model=MODEL, training=unshuffled))
    other = server.train(server.request(dataset, alone, model=MODEL, training=unshuffled))
    assert one.model == other.model


def test_a_training_that_lost_all_samples_fails(server: TrainingServer) -> None:
    dataset = new_dataset(server)
    digest = server.sets.put(dataset, KEYS)
    delete(server.peers, dataset, KEYS)
    with pytest.raises(InvalidInputError, match=f"all {N} samples of the training set were deleted"):
        server.train(server.request(dataset, digest, model=MODEL))


def test_samples_for_tests_are_refused_by_key(server: TrainingServer) -> None:
    server.peers.storage.RegisterDataset(RegisterDatasetRequest(name="held-out", role=TEST))
    server.append("held-out", np.arange(10) % 3, x=np.arange(10, dtype=np.float32))
    digest = server.sets.put("held-out", [7, 4])
    with pytest.raises(ModynError, match=r"(?s)test.*\b4\b") as refused:
        server.train(server.request("held-out", digest, model=MODEL))
    assert "7" in refused.value.message


def test_labels_are_those_of_the_training_set(server: TrainingServer) -> None:
    dataset = new_dataset(server)
    set_labels(server.peers, dataset, "a", range(80), [2] * 80, label_time=2**40)
    for as_of, label in ((LabelsAsOf(version=0), None), (LabelsAsOf(version=1), 2), (None, 2)):
        batches = list(source(server, dataset, labels=as_of).epoch(0))
        expected = [key % 3 if label is None else label for key in keys_of(batches)]
        assert [value for batch in batches for value in batch.labels.tolist()] == expected
