"""Batches are the same however they are read, parsed, kept, cut into shares or begun in the middle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.models.decoding import Decoder
from modyn.models.workers import ParserPool
from modyn.trainer_server import epochs, streams
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.completeness import all_usable
from modyn.trainer_server.parallel import Parallel
from modyn.trainer_server.training_sets import TrainingSamples
from tests.helpers.code import CodeRoot
from tests.helpers.labelling import delete
from tests.helpers.training import TrainingServer

N = 53
KEYS = np.random.default_rng(1).permutation(80)[:N]
WEIGHTS = np.linspace(0.5, 2, N).astype(np.float32)
PIXELS = np.random.default_rng(2).integers(0, 256, (80, 12), dtype=np.uint8)
IMAGE = {"name": "image", "encoding": "raw", "height": 2, "width": 2, "channels": 3, "random_flip": "both"}
RECORD = {"name": "numeric_record", "dtype": "uint8"}
BATCH = 4
EPOCHS = 3


def payload() -> pa.Array:
    return pa.array([row.tobytes() for row in PIXELS], pa.binary())


@pytest.fixture(scope="module")
def whole(server: TrainingServer) -> str:
    """All samples are there and have labels."""
    return server.dataset(np.arange(80) % 5, data=payload())


@pytest.fixture(scope="module")
def partial(server: TrainingServer) -> str:
    """Some samples have no label, some are gone: a whole batch of each in the order of the set, and single ones."""
    missing = {*KEYS[4:8].tolist(), *KEYS[20:50:9].tolist()}
    labels = pa.array([None if key in missing else key % 5 for key in range(80)], pa.int64())
    name = server.dataset(labels, data=payload())
    delete(server.peers, name, KEYS[[0, 13, 14, 15, 16, 30]])
    return name


def source(
    server: TrainingServer, dataset: str, parser: Any = None, root: object = None, **changes: Any
) -> BatchSource:
    options = {"batch_size": BATCH, "drop_last": False, "shuffle": (3, 1), "draws": (3, 1), **changes}
    data = DataSection(dataset_id=dataset, parser=parser or IMAGE)
    decoder = options.pop("decoder", None) or Decoder(data, None if root is None else str(root))
    samples = TrainingSamples(KeySet.from_array(KEYS), options.pop("weights", WEIGHTS))
    return BatchSource(server.peers.storage, dataset, samples, decoder, **options)


def said(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """All that training sees of batches."""
    return [
        {
            "keys": batch.keys.tolist(),
            "inputs": batch.inputs.tolist() if isinstance(batch.inputs, torch.Tensor) else None,
            "labels": batch.labels.tolist(),
            "weights": None if batch.weights is None else batch.weights.tolist(),
            "of": batch.of,
        }
        for batch in batches
    ]


def all_epochs(source: BatchSource) -> list[list[dict[str, Any]]]:
    return [said(list(source.epoch(epoch, last=epoch == EPOCHS - 1))) for epoch in range(EPOCHS)]


@pytest.fixture(params=["one request", "many requests"])
def requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many requests":
        monkeypatch.setattr(epochs, "FIRST_KEYS", 1)
        monkeypatch.setattr(epochs, "KEYS_PER_MESSAGE", 9)
        monkeypatch.setattr(streams, "BLOCK_BYTES", 150)


@pytest.mark.usefixtures("requests")
@pytest.mark.parametrize("parser", [IMAGE, RECORD], ids=["augmented", "repeatable"])
@pytest.mark.parametrize("name", ["whole", "partial"])
def test_the_same_read_kept_and_parsed_in_any_way(
    server: TrainingServer, name: str, parser: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    dataset = request.getfixturevalue(name)
    for options in ({}, {"shuffle": None}, {"shuffle": None, "weights": None}, {"drop_last": True}):
        one_by_one = Decoder(DataSection(dataset_id=dataset, parser=parser), None)
        one_by_one.parses_batches = one_by_one.repeatable = False
        expected = source(server, dataset, parser, decoder=one_by_one, keep_bytes=0, **options)
        batches = all_epochs(expected)
        for keep in (0, 1 << 20):
            other = source(server, dataset, parser, keep_bytes=keep, **options)
            assert all_epochs(other) == batches
            assert (other.num_deleted, other.num_unlabelled) == (expected.num_deleted, expected.num_unlabelled)
            assert other.parse_seconds == 0 < expected.parse_seconds
            assert (other.bytes_read < expected.bytes_read) == (keep > 0)


@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_models_may_change_their_inputs(server: TrainingServer, whole: str, keep: int) -> None:
    changed = source(server, whole, RECORD, keep_bytes=keep)
    for epoch in range(2):
        for batch in changed.epoch(epoch, last=False):
            assert isinstance(batch.inputs, torch.Tensor)
            batch.inputs.zero_()
            batch.labels.zero_()
    assert said(list(changed.epoch(2))) == said(list(source(server, whole, RECORD).epoch(2)))


def test_augmentation_follows_the_sample_and_the_epoch(server: TrainingServer, whole: str) -> None:
    def inputs(batches: Iterator[Batch]) -> dict[int, Any]:
        found = [
            (batch.keys.tolist(), batch.inputs.tolist()) for batch in batches if isinstance(batch.inputs, torch.Tensor)
        ]
        return dict(sorted(itertools.chain.from_iterable(zip(*pair, strict=True) for pair in found)))

    by_epoch = [inputs(source(server, whole).epoch(epoch)) for epoch in (0, 1)]
    assert by_epoch[0] == inputs(source(server, whole, batch_size=7, shuffle=None).epoch(0))
    assert by_epoch[0] != by_epoch[1]
    plain = inputs(source(server, whole, draws=None).epoch(0))
    assert plain == inputs(source(server, whole).everything(9))
    assert plain not in by_epoch


@pytest.mark.parametrize("name", ["whole", "partial"])
@pytest.mark.parametrize("shuffle", [None, (3, 1)])
def test_an_epoch_begun_in_the_middle(
    server: TrainingServer, name: str, shuffle: tuple[int, int] | None, request: pytest.FixtureRequest
) -> None:
    dataset = request.getfixturevalue(name)
    batches = all_epochs(source(server, dataset, shuffle=shuffle))
    for skip in range(len(batches[0]) + 1):
        for epoch in (0, 1):
            resumed = source(server, dataset, shuffle=shuffle)
            if skip % 2:
                resumed.prefetch(epoch)  # as a job does before it knows
            assert said(list(resumed.epoch(epoch, last=False, skip=skip))) == batches[epoch][skip:]
            assert said(list(resumed.epoch(epoch + 1))) == batches[epoch + 1]


def test_a_middle_is_read_without_what_comes_before(server: TrainingServer, whole: str) -> None:
    parts = [source(server, whole, keep_bytes=0) for _ in range(2)]
    for part, skip in zip(parts, (0, 12), strict=True):
        list(part.epoch(0, skip=skip))
    assert parts[1].bytes_read * N == pytest.approx(parts[0].bytes_read * (N - 12 * BATCH), rel=0.05)


class Rank(Parallel):
    """One of several processes; the main one is asked first."""

    def __init__(self, rank: int, size: int, answers: list[bool]) -> None:
        self.rank, self.size = rank, size
        self._answers = answers

    def agreed(self, answer: bool) -> bool:
        if self.is_main:
            self._answers.append(answer)
        return self._answers[-1]


@pytest.mark.parametrize("name", ["whole", "partial"])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_batches_of_one(
    server: TrainingServer, name: str, processes: int, drop_last: bool, request: pytest.FixtureRequest
) -> None:
    dataset = request.getfixturevalue(name)
    batches = all_epochs(source(server, dataset, drop_last=drop_last))
    answers: list[bool] = []
    ranks = [
        source(server, dataset, drop_last=drop_last, parallel=Rank(rank, processes, answers))
        for rank in range(processes)
    ]
    for epoch in range(EPOCHS):
        for skip in (0, 2):
            shares = [list(rank.epoch(epoch, last=epoch == EPOCHS - 1, skip=skip)) for rank in ranks]
            for number, parts in enumerate(zip(*shares, strict=True)):
                one = batches[epoch][skip + number]
                for part in parts:
                    assert part.of == len(one["keys"])
                    assert set(part.keys.tolist()) <= set(one["keys"])
                    if part.padding:
                        assert part.weights is not None
                        assert part.weights.tolist() == [0]
                real = said([part for part in parts if not part.padding])
                for what in ("keys", "inputs", "labels", "weights"):
                    assert list(itertools.chain.from_iterable(part[what] for part in real)) == one[what]
            assert len(shares[0]) == len(batches[epoch]) - skip
    assert answers == [name == "whole"]
    if name == "whole":
        assert max(rank.bytes_read for rank in ranks) * processes < 2.2 * sum(rank.bytes_read for rank in ranks)


def test_processes_stay_together_when_samples_are_deleted_meanwhile(server: TrainingServer) -> None:
    dataset = server.dataset(np.arange(80) % 5, data=payload())
    answers: list[bool] = []
    ranks = [source(server, dataset, parallel=Rank(rank, 2, answers)) for rank in range(2)]
    counts = [len(list(rank.epoch(0, last=False))) for rank in ranks]
    delete(server.peers, dataset, KEYS[::3])
    shares = [list(rank.epoch(1)) for rank in ranks]
    assert [len(share) for share in shares] == counts == [14, 14]
    trained = [key for share in shares for batch in share if not batch.padding for key in batch.keys.tolist()]
    assert sorted(trained) == sorted(set(KEYS.tolist()) - set(KEYS[::3].tolist()))


def test_what_is_all_there(server: TrainingServer, whole: str, partial: str) -> None:
    for keys in (KeySet.from_array(KEYS), KeySet.from_array(np.arange(10, 40))):
        assert all_usable(server.peers.storage, whole, keys, None)
        assert not all_usable(server.peers.storage, partial, keys, None)


def test_what_cannot_be_parsed_fails_at_its_batch(server: TrainingServer) -> None:
    rows = payload().to_pylist()
    rows[KEYS[22]] = b"short"
    dataset = server.dataset(np.arange(80) % 5, data=pa.array(rows, pa.binary()))
    batches = source(server, dataset, RECORD, shuffle=None).epoch(0)
    for number in range(5):
        assert next(batches).keys.tolist() == KEYS[number * BATCH : (number + 1) * BATCH].tolist()
    with pytest.raises(InvalidInputError, match=rf"5 bytes.*starts with sample key {KEYS[20]}\)"):
        next(batches)


def test_own_functions_draw_by_batch_whoever_calls_them(
    server: TrainingServer, whole: str, code_root: CodeRoot
) -> None:
    code_root.write(
        "own.py",
        """
        import random
        import torch

        def parse(data):
            return torch.tensor([float(data[0]), random.random()])
        """,
    )
    own = {"bytes_parser_function": "own:parse"}
    data = DataSection(dataset_id=whole, **own)
    state = torch.random.get_rng_state()
    with ParserPool(data, str(code_root), 0) as pool:
        found = [
            all_epochs(source(server, whole, decoder=Decoder(data, str(code_root)), **options))
            for options in ({}, {"pool": pool}, {"keep_bytes": 0}, {"pool": pool, "keep_bytes": 0})
        ]
    assert all(one == found[0] for one in found)
    assert found[0][0] != found[0][1]
    assert torch.equal(state, torch.random.get_rng_state())
