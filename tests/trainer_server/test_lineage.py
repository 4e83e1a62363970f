"""Which models were trained on some samples, exactly where it is on record; and what is told of models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modyn.core.errors import CorruptDataError, InvalidInputError, NotFoundError
from modyn.core.keysets import KeySet
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSetHeader
from modyn.proto.trainer_server_pb2 import (
    DescribeModelRequest,
    DownsamplingResult,
    FindTrainingsRequest,
    ListModelsRequest,
    ModelDescription,
    TrainedModel,
    TrainResult,
    TriggerRef,
)
from modyn.trainer_server.descriptions import Models
from modyn.trainer_server.lineage import Lineage
from modyn.trainer_server.plain import plain
from modyn.trainer_server.store import LineageRow, TrainingStore
from modyn.trainer_server.trained import TrainedRecord
from tests.helpers.services import StorageAndSelector, append_numbers
from tests.helpers.training import TrainingServer

RESULT = TrainResult(num_samples=100, samples_trained=50, batches=5, epochs=1, train_seconds=1.5, epoch_losses=[0.5])


class Trained:
    """Models that somebody trained on samples 0 to 99, and the questions about them."""

    def __init__(self, folder: Path) -> None:
        self.services = StorageAndSelector.start(folder)
        append_numbers(self.services.peers, "numbers", [0] * 100)
        self.store = TrainingStore(self.services.catalog)
        self.lineage = Lineage(self.store, self.services.peers)
        self.models = Models(self.store)
        self.time = 0.0

    def training_set(self, pipeline: str, keys: Iterable[int]) -> str:
        header = TrainingSetHeader(
            pipeline_id=pipeline, trigger_index=0, dataset="numbers", selection=to_value({"name": "NewDataStrategy"})
        )
        new_data = KeySet.from_array(np.array(list(keys))).to_proto()
        messages = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=new_data)]
        return self.services.peers.selector.CreateTrainingSet(iter(messages)).digest

    def record(self, *epochs: Sequence[int], auxiliary: Sequence[int] = ()) -> str:
        record = TrainedRecord()
        for keys in epochs:
            record.add(np.array(keys), None)
            record.end_epoch()
        record.add_auxiliary(np.array(auxiliary, dtype=np.int64))
        return record.store(self.services.peers.selector, "numbers")

    def add(
        self, model: str, training_set: str, trained: str | None = None, *, initial: str | None = None, trigger: int = 0
    ) -> LineageRow:
        self.time += 1
        row = LineageRow(
            "1", trigger, training_set, model, "numbers", initial, False, self.time, trained, plain(RESULT)
        )
        self.store.add_lineage(row)
        return row

    def find(self, *chunks: Sequence[int]) -> list[TrainedModel]:
        requests = [
            FindTrainingsRequest(dataset="numbers", keys=KeySet.from_array(np.array(c)).to_proto()) for c in chunks
        ]
        return list(self.lineage.find(iter(requests)))

    def describe(self, model: str) -> ModelDescription:
        return self.models.describe(DescribeModelRequest(model=model))


@pytest.fixture
def trained() -> Iterator[Trained]:
    with tempfile.TemporaryDirectory(prefix="modyn-") as folder:
        trained = Trained(Path(folder) / "s")
        yield trained
        trained.services.close()


def members(found: TrainedModel, *asked: int) -> list[int]:
    bits = np.unpackbits(np.frombuffer(found.members, np.uint8), count=len(set(asked)), bitorder="little")
    chosen: list[int] = np.unique(np.array(asked))[bits.astype(bool)].tolist()
    assert len(chosen) == found.num_keys
    return chosen


def test_what_downsampling_left_out_was_not_trained_on(trained: Trained) -> None:
    whole = trained.training_set("1", range(100))
    record = trained.record([1, 2, 3], [3, 4], auxiliary=[50])
    trained.add("a0", whole)
    trained.add("a1", whole, record, trigger=1)
    asked = ([60, 4], [50, 3, 4])
    first, second = trained.find(*asked)
    assert (first.model, members(first, 3, 4, 50, 60), first.HasField("trained")) == ("a0", [3, 4, 50, 60], False)
    assert (second.model, members(second, 3, 4, 50, 60), second.trained) == ("a1", [3, 4, 50], record)
    assert second.HasField("labels")
    assert [one.model for one in trained.find([60])] == ["a0"]
    assert trained.find([]) == []


def test_heirs_of_models_that_left_the_samples_out_are_clean(trained: Trained) -> None:
    whole, other = trained.training_set("1", range(50)), trained.training_set("2", range(50, 100))
    trained.add("a0", whole, trained.record([1]))
    trained.add("a1", other, initial="a0", trigger=1)
    trained.add("a2", whole, trained.record([2]), initial="a1", trigger=2)
    assert [(one.model, one.inherited) for one in trained.find([2])] == [("a2", False)]
    assert [(one.model, one.inherited) for one in trained.find([1])] == [("a0", False), ("a1", True), ("a2", True)]
    assert [(one.model, one.inherited) for one in trained.find([55])] == [("a1", False), ("a2", True)]


def test_auxiliary_models_of_earlier_triggers_are_ancestors(trained: Trained) -> None:
    first, second = trained.training_set("1", range(50)), trained.training_set("2", range(50, 100))
    row = trained.add("a0", first, trained.record([1], auxiliary=[2]))
    later = replace(row, training_set=second, created_at=9.0, trained=None)
    trained.store.add_lineage(replace(row, trigger_index=1, model="a1", auxiliary_left=["b1"], trained=None))
    trained.store.add_lineage(replace(later, trigger_index=2, model="a2", auxiliary_used=["b1"]))
    trained.store.add_lineage(replace(later, trigger_index=3, model="a3", auxiliary_used=["b0"]))
    assert [(one.model, one.inherited) for one in trained.find([2])] == [("a0", False), ("a1", False), ("a2", True)]
    assert [one.model for one in trained.find([60])] == ["a2", "a3"]


def test_one_model_by_two_trainings_was_trained_on_what_either_used(trained: Trained) -> None:
    whole = trained.training_set("1", range(100))
    trained.add("a0", whole, trained.record([1, 2]))
    trained.add("a0", whole, trained.record([2, 3]), trigger=1)
    (found,) = trained.find([1, 3, 4])
    assert members(found, 1, 3, 4) == [1, 3]
    trained.add("a0", whole, None, trigger=2)  # of this one nothing is known
    (found,) = trained.find([1, 3, 4])
    assert members(found, 1, 3, 4) == [1, 3, 4]


def test_a_damaged_record_is_no_clean_bill(trained: Trained) -> None:
    record = trained.record([1, 2])
    trained.add("a0", trained.training_set("1", range(100)), record)
    path = trained.services.state.folder("sample_columns") / f"{record}.arrow"
    path.write_bytes(path.read_bytes().replace(np.array([1, 2]).tobytes(), np.array([1, 4]).tobytes()))
    with pytest.raises(CorruptDataError, match=record):
        trained.find([50])
    path.unlink()
    with pytest.raises(NotFoundError, match=record):
        trained.find([50])


@pytest.mark.parametrize("seed", range(10))
def test_the_answer_is_what_sets_of_numbers_say(trained: Trained, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = trained.training_set("1", range(100))
    used = {}
    for i in range(4):
        epochs = [rng.choice(100, int(rng.integers(1, 60)), replace=False).tolist() for _ in range(2)]
        used[f"a{i}"] = set(epochs[0]) | set(epochs[1])
        trained.add(f"a{i}", whole, trained.record(*epochs), trigger=i)
    asked = rng.choice(100, 5, replace=False).tolist()
    expected = {model: sorted(keys & set(asked)) for model, keys in used.items() if keys & set(asked)}
    assert {one.model: members(one, *asked) for one in trained.find(asked)} == expected


def test_models_are_described_by_their_first_training(trained: Trained) -> None:
    row = trained.add("ab1", "set", "record", initial="a0")
    trained.store.add_lineage(replace(row, pipeline_id="2", trigger_index=7, reused=True, created_at=9.0, numbers=None))
    trained.add("ab2", "set", trigger=1)
    found = trained.describe("ab1")
    assert (found.training_set, found.trained, found.initial_model, found.trained_at) == ("set", "record", "a0", 1.0)
    assert [(use.pipeline_id, use.trigger_index, use.reused) for use in found.uses] == [("1", 0, False), ("2", 7, True)]
    assert found.result == RESULT
    assert trained.models.describe(DescribeModelRequest(trigger=TriggerRef(pipeline_id="2", trigger_index=7))) == found
    assert not trained.describe("ab2").HasField("trained")
    assert [model.model for model in trained.models.all(ListModelsRequest())] == ["ab1", "ab2"]
    assert list(trained.models.all(ListModelsRequest(pipeline_id="2"))) == [found]
    assert list(trained.models.all(ListModelsRequest(pipeline_id="3"))) == []


def test_references_to_no_model_and_to_several(trained: Trained) -> None:
    for i in range(8):
        trained.add(f"ab{i}", "set", trigger=i)
    with pytest.raises(InvalidInputError, match=r"several begin like that .*ab0.*, …"):
        trained.describe("ab")
    for nobody in ("ac", "ab01"):
        with pytest.raises(NotFoundError, match="there is no model"):
            trained.describe(nobody)
    for nonsense in ("", "xyz", "AB", "%"):
        with pytest.raises(InvalidInputError, match="expected a digest"):
            trained.describe(nonsense)
    with pytest.raises(NotFoundError, match="trigger 9 of pipeline 1 has no model"):
        trained.models.describe(DescribeModelRequest(trigger=TriggerRef(pipeline_id="1", trigger_index=9)))


def test_a_reused_training_answers_what_its_downsampling_did(server: TrainingServer) -> None:
    dataset = server.dataset(np.arange(20) % 2, a=np.arange(20.0), b=np.arange(20.0))
    model = {"id": "MLP", "config": {"in_features": 2, "num_classes": 2}}
    request = server.request(dataset, server.sets.put_range(dataset, 0, 20), model=model, reuse=True)
    first = server.train(request)
    record = TrainedRecord()
    record.add(np.arange(5), None)
    digest = record.store(server.peers.selector, dataset)
    store = TrainingStore(server.catalog)
    kept = store.find(first.input_digest)
    assert kept is not None
    downsampling = DownsamplingResult(trained=digest, auxiliary_models=[first.model], samples_offered=2**53 + 1)
    store.record(replace(kept, downsampling=plain(downsampling)))

    request.pipeline_id = "another"
    again = server.train(request)
    assert (again.reused, again.downsampling) == (True, downsampling)
    found = server.peers.trainer_server.DescribeModel(DescribeModelRequest(model=first.model))
    assert [(use.pipeline_id, use.reused) for use in found.uses] == [("p", False), ("another", True)]
    assert found.result.samples_trained == first.samples_trained
    assert (found.result.model, found.result.input_digest) == ("", "")
    of_another = server.peers.trainer_server.ListModels(ListModelsRequest(pipeline_id="another"))
    assert list(of_another) == [found]
    assert [row.trained for row in store.lineage_of(first.model)] == [None, digest]

    server.sets.sample_columns.path(digest).unlink()
    server.sets.sample_columns._open.clear()
    assert not server.train(request).reused  # what it was trained on is gone
