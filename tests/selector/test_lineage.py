"""Which training sets contain some keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import (
    CreateTrainingSetRequest,
    FindTrainingSetsRequest,
    FoundTrainingSet,
    TrainingSet,
    TrainingSetHeader,
)
from modyn.selector import lineage
from modyn.selector.lineage import contained
from tests.helpers.services import StorageAndSelector, append_numbers


@pytest.fixture
def services(tmp_path: Path) -> Iterator[StorageAndSelector]:
    services = StorageAndSelector.start(tmp_path / "s")
    append_numbers(services.peers, "numbers", [0] * 100)
    append_numbers(services.peers, "others", [0] * 100)
    yield services
    services.close()


def create(services: StorageAndSelector, pipeline: str, keys: Iterable[int], dataset: str = "numbers") -> TrainingSet:
    header = TrainingSetHeader(
        pipeline_id=pipeline, trigger_index=0, dataset=dataset, selection=to_value({"name": "NewDataStrategy"})
    )
    new_data = KeySet.from_array(np.array(list(keys))).to_proto()
    messages = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=new_data)]
    return services.peers.selector.CreateTrainingSet(iter(messages))


def find(services: StorageAndSelector, *chunks: Iterable[int]) -> dict[str, FoundTrainingSet]:
    requests = [
        FindTrainingSetsRequest(
            dataset="numbers" if i == 0 else "", keys=KeySet.from_array(np.array(list(c))).to_proto()
        )
        for i, c in enumerate(chunks)
    ]
    return {found.digest: found for found in services.peers.selector.FindTrainingSets(iter(requests))}


def members(found: FoundTrainingSet, asked: Iterable[int]) -> list[int]:
    keys = np.unique(np.array(list(asked)))
    bits = np.unpackbits(np.frombuffer(found.members, np.uint8), count=len(keys), bitorder="little")
    chosen: list[int] = keys[bits.astype(bool)].tolist()
    return chosen


def test_sets_are_found_by_their_keys(services: StorageAndSelector) -> None:
    ranges = create(services, "a", range(10, 60))
    scattered = create(services, "b", [99, 3, 50, 7, 41])
    create(services, "c", range(10, 60), dataset="others")
    asked = [50, 7, 8, 3, 50]
    found = find(services, asked[:2], asked[2:])
    assert set(found) == {ranges.digest, scattered.digest}
    assert members(found[ranges.digest], asked) == [50]
    assert members(found[scattered.digest], asked) == [3, 7, 50]
    assert found[scattered.digest].num_keys == 3
    assert found[scattered.digest].labels == scattered.labels
    assert find(services, [0, 1, 60]) == {}
    assert find(services, []) == {}


def test_a_request_names_a_dataset(services: StorageAndSelector) -> None:
    with pytest.raises(InvalidInputError, match="names no dataset"):
        list(services.peers.selector.FindTrainingSets(iter([FindTrainingSetsRequest()])))


def test_a_damaged_set_is_no_clean_bill(tmp_path: Path) -> None:
    services = StorageAndSelector.start(tmp_path / "t")
    append_numbers(services.peers, "numbers", [0] * 100)
    made = create(services, "a", [99, 3, 50, 7, 41])
    services.close()
    file = services.state.folder("training_sets") / f"{made.digest}.arrow"
    data = bytearray(file.read_bytes())
    data[data.index(np.array([99, 3]).tobytes())] ^= 1
    file.write_bytes(bytes(data))
    again = StorageAndSelector.start(tmp_path / "t")
    with pytest.raises(CorruptDataError, match=made.digest):
        find(again, [3])
    again.close()


@pytest.mark.parametrize("seed", range(40))
def test_contained_is_what_a_set_of_numbers_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "CHUNK", 7)
    rng = np.random.default_rng(seed)
    wanted: Int64Array = np.unique(rng.integers(0, 80, int(rng.integers(1, 40))))
    kind = seed % 3
    keys = rng.integers(0, 80, int(rng.integers(0, 60)))
    if kind == 1:
        keys = np.unique(keys)
    elif kind == 2:
        keys = np.arange(*sorted(rng.integers(0, 80, 2)))
    held = set(keys.tolist())
    assert contained(wanted, KeySet.from_array(keys)).tolist() == [key in held for key in wanted.tolist()]
