"""Keys that a pipeline was given before are found, at no cost where new data ascend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSet, TrainingSetHeader
from modyn.selector.seen import PIPELINES, PastKeys, SeenKeys
from tests.helpers.keys import key_sets
from tests.helpers.services import StorageAndSelector, append_numbers

EVERYTHING = to_value({"name": "NewDataStrategy", "tail_triggers": None})


@pytest.fixture
def services(tmp_path: Path) -> Iterator[StorageAndSelector]:
    services = StorageAndSelector.start(tmp_path / "s")
    append_numbers(services.peers, "numbers", [0] * 100)
    yield services
    services.close()


def create(services: StorageAndSelector, trigger: int, keys: Sequence[int], pipeline: str = "p") -> TrainingSet:
    header = TrainingSetHeader(pipeline_id=pipeline, trigger_index=trigger, dataset="numbers", selection=EVERYTHING)
    data = CreateTrainingSetRequest(new_data=KeySet.from_array(keys).to_proto())
    return services.peers.selector.CreateTrainingSet(iter([CreateTrainingSetRequest(header=header), data]))


@given(added=st.lists(key_sets(), max_size=5), asked=key_sets())
def test_against_a_set(added: list[KeySet], asked: KeySet) -> None:
    seen, known = SeenKeys(), set[int]()
    for keys in added:
        seen.add(keys)
        known.update(keys.to_array().tolist())
    found = [key for key in asked.to_array().tolist() if key in known]
    assert seen.first_of(asked) == (found[0] if found else None)
    assert seen.first_of(KeySet.from_array(sorted(known))) == min(known, default=None)


def test_keys_beyond_those_known_are_not_in_it() -> None:
    seen = SeenKeys()
    seen.add(KeySet(ranges=(KeyRange(0, 8),)))
    assert seen.first_of(KeySet.from_array([8, 2**62, -3])) is None
    assert seen.first_of(KeySet.from_array([8, 2**62, 7])) == 7


@pytest.mark.parametrize("again", [range(5, 15), range(9, -1, -1), [50, 60, 3]], ids=str)
def test_a_key_of_an_earlier_trigger_is_refused(services: StorageAndSelector, again: Sequence[int]) -> None:
    create(services, 0, range(10))
    create(services, 1, range(20, 30))
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"trigger 2 contain key [359], .* of pipeline p contained"):
            create(services, 2, again)
    create(services, 0, again, pipeline="other")
    # a refused trigger leaves nothing behind
    assert create(services, 2, [*range(40, 30, -1), *range(10, 20)]).num_samples == 40
    with pytest.raises(InvalidInputError, match="contain key 35"):
        create(services, 3, [99, 35])


def test_late_keys_are_fine(services: StorageAndSelector) -> None:
    for index in range(10):
        assert create(services, index, range(index, 100, 10)).num_samples == 10 * index + 10


def test_a_restarted_selector_refuses_them_too(tmp_path: Path, services: StorageAndSelector) -> None:
    create(services, 0, [7, 3, 50])
    create(services, 1, [4, 8])
    services.close()
    again = StorageAndSelector.start(tmp_path / "s")
    with pytest.raises(InvalidInputError, match="contain key 8"):
        create(again, 2, [1, 2, 8])
    assert create(again, 2, [1, 2]).num_samples == 7
    again.close()


def test_many_pipelines_and_only_where_keys_do_not_ascend(
    services: StorageAndSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    search = PastKeys.first_of

    def first_of(self: PastKeys, keys: KeySet, pipeline_id: str, trigger_index: int) -> int | None:
        searched.append(pipeline_id)
        return search(self, keys, pipeline_id, trigger_index)

    monkeypatch.setattr(PastKeys, "first_of", first_of)
    pipelines = [f"p{number}" for number in range(PIPELINES + 2)]
    for index, keys in enumerate((range(5), [], range(10, 20))):
        for pipeline in pipelines:
            create(services, index, keys, pipeline)
    assert searched == []
    for trigger, keys in ((3, [5]), (4, [6, 7])):
        for pipeline in pipelines:
            create(services, trigger, keys, pipeline)
            with pytest.raises(InvalidInputError, match=f"contain key {keys[0]}"):
                create(services, trigger + 1, keys, pipeline)
    assert len(searched) == 4 * len(pipelines)
