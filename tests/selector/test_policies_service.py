"""Selection policies through the selector service, with a real storage service behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from modyn.core.arrow import concat_messages
from modyn.core.config.pipeline import DataSection
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.rpc import arrow_stream
from modyn.core.values import to_value
from modyn.models.decoding import Decoder
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, ReadTrainingSetRequest, TrainingSet, TrainingSetHeader
from modyn.proto.storage_pb2 import DeleteSamplesRequest
from modyn.storage.service import StorageService
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.training_sets import read_training_set
from tests.helpers.policies import CONFIGURATIONS, draws_again, ids
from tests.helpers.services import StorageAndSelector, append_numbers


@pytest.fixture
def services(tmp_path: Path) -> Iterator[StorageAndSelector]:
    services = StorageAndSelector.start(tmp_path / "s")
    yield services
    services.close()


def create(
    services: StorageAndSelector, trigger: int, new_data: KeySet, selection: dict[str, Any], pipeline: str = "p"
) -> TrainingSet:
    header = TrainingSetHeader(
        pipeline_id=pipeline, trigger_index=trigger, dataset="numbers", selection=to_value(selection), seed=3
    )
    requests = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=new_data.to_proto())]
    return services.peers.selector.CreateTrainingSet(iter(requests))


def read(services: StorageAndSelector, made: TrainingSet) -> tuple[list[int], list[float]]:
    stream = services.peers.selector.ReadTrainingSet(ReadTrainingSetRequest(digest=made.digest))
    table = concat_messages(arrow_stream(stream))
    return ([], []) if table is None else (table.column("key").to_pylist(), table.column("weight").to_pylist())


def cycles(ratio: int) -> dict[str, Any]:
    return {"strategy": "RandomNoReplacement", "ratio": ratio}


def span(start: int, end: int) -> KeySet:
    return KeySet.from_ranges([KeyRange(start, end)])


def test_unlabelled_and_deleted_samples_are_never_selected(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [None if key % 7 == 3 else key % 3 for key in range(120)])
    triggers = [span(0, 40), KeySet.from_array(np.arange(40, 80)[::-1]), span(80, 120)]
    chosen: list[tuple[dict[str, Any], int, list[int]]] = []

    def round_of(index: int) -> None:
        for configuration in CONFIGURATIONS:
            made = create(services, index, triggers[index], configuration, ids(configuration))
            keys, weights = read(services, made)
            assert np.isfinite(weights).all()
            assert draws_again(configuration, index) or len(set(keys)) == len(keys)
            chosen.append((configuration, index, keys))

    round_of(0)
    round_of(1)
    gone = [*range(5, 10), *range(60, 70), 90]
    services.peers.storage.DeleteSamples(
        DeleteSamplesRequest(dataset="numbers", keys=KeySet.from_array(gone).to_proto())
    )
    round_of(2)
    for configuration, index, keys in chosen:
        assert not any(key % 7 == 3 for key in keys), configuration
        if index == 2:
            assert not set(keys) & set(gone), configuration
    assert all(keys for _, _, keys in chosen)


@pytest.mark.parametrize(
    "configuration",
    [
        {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 50},
        {"name": "SlidingWindowStrategy", "window": "1d"},
        {"name": "CoresetStrategy", "tail_triggers": None, "presampling_config": cycles(50)},
        {"name": "NewDataStrategy", "tail_triggers": None},
    ],
    ids=ids,
)
def test_earlier_triggers_cost_no_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configuration: dict[str, Any]
) -> None:
    calls: list[str] = []

    def counting(name: str) -> Any:
        method = getattr(StorageService, name)

        def counted(*arguments: Any) -> Any:
            calls.append(name)
            return method(*arguments)

        return counted

    for name in ("InspectSamples", "ReadSamples"):
        monkeypatch.setattr(StorageService, name, counting(name))
    services = StorageAndSelector.start(tmp_path / "s")
    event.listen(services.catalog._engine, "before_cursor_execute", lambda *_: calls.append("query"))
    try:
        append_numbers(services.peers, "numbers", [0] * 160)
        by_trigger: list[Counter[str]] = []
        for index in range(16):
            calls.clear()
            create(services, index, span(10 * index, 10 * index + 10), configuration)
            by_trigger.append(Counter(calls))
    finally:
        services.close()
    assert by_trigger[3] == by_trigger[15]


@pytest.mark.parametrize("fresh", [True, False])
def test_pipelines_on_one_dataset_do_not_interfere(services: StorageAndSelector, fresh: bool) -> None:
    append_numbers(services.peers, "numbers", [0] * 100)
    configuration: dict[str, Any] = (
        {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 50, "limit": 20}
        if fresh
        else {"name": "CoresetStrategy", "tail_triggers": None, "presampling_config": cycles(20)}
    )
    triggers = [span(25 * i, 25 * i + 25) for i in range(4)]
    sets = {
        pipeline: [
            read(services, create(services, i, new, configuration, pipeline))[0] for i, new in enumerate(triggers)
        ]
        for pipeline in ("first", "second")
    }
    assert sets["first"] == sets["second"]
    used: set[int] = set()
    for index, keys in enumerate(sets["second"]):
        assert len(used & set(keys)) == (10 if fresh and index else 0)
        used |= set(keys)


def test_a_set_with_repeated_keys_is_trained_as_it_is(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", list(range(40)))
    selection = {
        "name": "CoresetStrategy",
        "presampling_config": {"strategy": "Random", "ratio": 100, "with_replacement": True},
    }
    made = create(services, 0, span(0, 40), selection)
    keys, _ = read(services, made)
    assert made.num_samples == len(keys) == 40
    assert len(set(keys)) < 40
    samples = read_training_set(made, services.peers)
    source = BatchSource(
        services.peers.storage,
        "numbers",
        samples,
        Decoder(DataSection(dataset_id="numbers"), None),
        batch_size=7,
        drop_last=False,
        shuffle=(1, 0),
        labels=made.labels,
    )
    for epoch in range(3):
        batches = list(source.epoch(epoch))
        assert sorted(key for batch in batches for key in batch.keys.tolist()) == keys
        assert all(batch.labels.tolist() == batch.keys.tolist() for batch in batches)
    assert source.num_deleted == 0
