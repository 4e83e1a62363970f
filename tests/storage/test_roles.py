"""Roles: samples for training, for tests, for anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modyn.core.errors import AlreadyExistsError, InvalidInputError
from modyn.core.keysets import KeyRange, KeySet, ranges_to_proto
from modyn.proto.storage_pb2 import InspectSamplesRequest, Purpose, ReadColumnsRequest, ReadSamplesRequest, Role
from modyn.storage.reader import read_columns, read_samples
from tests.storage.support import NAME, StorageServer, interval

Column, Order = ReadColumnsRequest.Column, ReadColumnsRequest.Order
TRAINING = Purpose.TRAINING


def fill(storage: StorageServer, folder: Path) -> dict[int, Role.ValueType]:
    """Roles by key: files by pattern, one scan with all and one for each, and appended ones as the dataset says."""
    storage.register(
        {"format": "csv", "path": str(folder), "timestamp": "t", "settle_seconds": 0}
        | {"roles": {"test/**": "test", "**/train*": "train"}},
        role=Role.ANY,
    )
    (folder / "test").mkdir()
    for number, name in enumerate(("test/a.csv", "train.csv", "other.csv")):
        (folder / name).write_text("x,t\n" + "".join(f"{number},{row * 3 + number}\n" for row in range(4)))
    storage.ingest()
    (folder / "test" / "b.csv").write_text("x,t\n0,100\n0,101\n")
    storage.ingest()
    (folder / "train2.csv").write_text("x,t\n1,102\n")
    storage.ingest()
    storage.append("one", {"x": [2], "timestamp": [103]})
    return {**{key: (Role.TEST, Role.TRAIN, Role.ANY)[key % 3] for key in range(12)}} | {
        12: Role.TEST, 13: Role.TEST, 14: Role.TRAIN, 15: Role.ANY,
    }  # fmt: skip


@pytest.mark.parametrize("compacted", [False, True])
def test_training_never_sees_test_samples(storage: StorageServer, folder: Path, compacted: bool) -> None:
    roles = fill(storage, folder)
    if compacted:
        storage.compact()
        assert storage.describe().num_segments == 1
    allowed = [key for key, role in roles.items() if role != Role.TEST]
    found = read_columns(storage.stub, NAME, interval(), columns=[Column.ROLE]).to_pydict()
    assert found == {"key": list(roles), "role": list(roles.values())}
    for order in (Order.KEY, Order.EVENT_TIME):
        for part in (interval(), KeySet(ranges=(KeyRange(0, 16),))):
            keys = read_columns(storage.stub, NAME, part, purpose=TRAINING, order=order)["key"].to_pylist()
            assert keys == allowed
    ranges = KeySet(ranges=(KeyRange(1, 4), KeyRange(11, 15)))
    assert read_columns(storage.stub, NAME, ranges, purpose=TRAINING)["key"].to_pylist() == [1, 2, 11, 14]
    assert read_columns(storage.stub, NAME, interval(5, 102), purpose=TRAINING)["key"].to_pylist() == [5, 7, 8, 10, 11]
    described = storage.describe()
    assert (described.num_test, described.num_train, described.num_samples, described.role) == (6, 5, 16, Role.ANY)
    seen = storage.stub.InspectSamples(InspectSamplesRequest(dataset=NAME, purpose=TRAINING))
    assert seen.num_samples == len(allowed)
    every = storage.stub.InspectSamples(InspectSamplesRequest(dataset=NAME))
    assert every.content_digest != seen.content_digest
    tests = ranges_to_proto((KeyRange(12, 14),))
    assert (
        storage.stub.InspectSamples(InspectSamplesRequest(dataset=NAME, ranges=tests, purpose=TRAINING)).num_samples
        == 0
    )


def test_keys_of_test_samples_are_refused_by_name(storage: StorageServer, folder: Path) -> None:
    roles = fill(storage, folder)
    allowed = [key for key, role in roles.items() if role != Role.TEST]
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(allowed), batch_size=20, purpose=TRAINING))
    assert batch.keys.tolist() == allowed
    message = r"training may not read test samples, but was asked for the keys 0, 9, 12 \(3 of 5\)"
    mixed = KeySet.from_array([12, 1, 9, 2, 0])
    with pytest.raises(InvalidInputError, match=message):
        list(read_samples(storage.stub, NAME, mixed, batch_size=20, purpose=TRAINING))
    with pytest.raises(InvalidInputError, match=message):
        read_columns(storage.stub, NAME, mixed, purpose=TRAINING, order=Order.REQUEST)
    request = ReadSamplesRequest(dataset=NAME, keys=mixed.to_proto(), purpose=TRAINING)
    with pytest.raises(InvalidInputError, match=message):
        list(storage.stub.ReadSamples(request))
    with pytest.raises(InvalidInputError, match=message):
        storage.stub.LocateSamples(request)
    whole = KeySet(ranges=(KeyRange(0, 16),))
    with pytest.raises(InvalidInputError, match=r"keys 0, 3, 6, 9, 12, 13 \(6 of 16\)"):
        list(read_samples(storage.stub, NAME, whole, batch_size=20, purpose=TRAINING))
    assert len(next(read_samples(storage.stub, NAME, mixed, batch_size=20))) == 5


def test_the_role_of_a_dataset_is_that_of_its_samples(storage: StorageServer) -> None:
    storage.register(role=Role.TEST)
    storage.append("one", {"x": np.arange(30)})
    assert storage.describe().num_test == 30
    with pytest.raises(InvalidInputError, match=r"keys 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more \(30 of 30\)"):
        list(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(30)), batch_size=20, purpose=TRAINING))
    assert read_columns(storage.stub, NAME, interval(), purpose=TRAINING).num_rows == 0
    storage.register()
    with pytest.raises(AlreadyExistsError, match="already exists with role test; it cannot get train"):
        storage.register(role=Role.TRAIN)
    storage.restart()
    assert storage.describe().role == Role.TEST
