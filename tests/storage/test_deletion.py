"""Deleting samples: they are never seen again, and their bytes vanish with compaction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.storage_pb2 import DeleteSamplesRequest, InspectSamplesRequest, ReadColumnsRequest
from modyn.storage.reader import read_columns, read_samples
from tests.storage.support import NAME, StorageServer, interval

Column = ReadColumnsRequest.Column


def label_of(key: int) -> float:
    return (key + 1) * 0.123456789


def fill(storage: StorageServer) -> None:
    for number in range(3):
        values = list(range(number * 4, number * 4 + 4))
        storage.append(
            f"{number}",
            {
                "text": [f"secret number {value:02d}" for value in values],
                "code": pa.array([f"code{value:02d}!!".encode() for value in values], pa.binary(8)),
                "pair": pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(values, 2) * 1.5), 2),
                "label": [label_of(value) for value in values],
                "timestamp": [1_000_000 + value for value in values],
            },
        )


def live(storage: StorageServer) -> list[int]:
    keys: list[int] = read_columns(storage.stub, NAME, interval())["key"].to_pylist()
    return keys


def stored_bytes(storage: StorageServer) -> bytes:
    [dataset] = (path for path in (storage.state.path / "datasets").iterdir() if path.is_dir())
    return b"".join(path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file())


def test_deleted_samples_are_never_seen(storage: StorageServer) -> None:
    storage.register()
    fill(storage)
    answer = storage.delete([3, 4, 11, 4])
    assert (answer.num_deleted, answer.num_deleted_before, answer.num_source_files) == (3, 0, 0)
    answer = storage.delete([4, 5])
    assert (answer.num_deleted, answer.num_deleted_before) == (1, 1)
    left = [0, 1, 2, 6, 7, 8, 9, 10]
    for restarted in (False, True):
        assert live(storage) == left
        wanted = KeySet.from_array([11, 10, 4, 0, 10, 3])
        batch = next(read_samples(storage.stub, NAME, wanted, batch_size=9))
        assert batch.keys.tolist() == [10, 0, 10]
        assert batch.columns["text"].to_pylist() == [f"secret number {key:02d}" for key in (10, 0, 10)]
        assert batch.labels.to_pylist() == [label_of(key) for key in (10, 0, 10)]
        table = read_columns(storage.stub, NAME, wanted, columns=[Column.TIMESTAMP], order=ReadColumnsRequest.REQUEST)
        assert table.to_pydict() == {"key": [10, 0, 10], "timestamp": [1_000_010, 1_000_000, 1_000_010]}
        assert read_columns(storage.stub, NAME, KeySet(ranges=(KeyRange(2, 8),)))["key"].to_pylist() == [2, 6, 7]
        described = storage.describe()
        assert (described.num_samples, described.num_deleted, described.num_superseded) == (8, 4, 0)
        assert (described.first_timestamp, described.last_timestamp) == (1_000_000, 1_000_010)
        assert storage.stub.InspectSamples(InspectSamplesRequest(dataset=NAME)).num_samples == 8
        if not restarted:
            storage.restart()


def test_the_bytes_of_deleted_samples_vanish(storage: StorageServer) -> None:
    storage.register()
    fill(storage)
    storage.set_labels("late", {"key": [4, 5], "label": [-0.44444, -0.55555], "label_time": [1_000_777, 1_000_888]})
    for step, keys in enumerate(([4, 9], [8, 10, 11], [0, 1, 2, 3])):
        storage.delete(keys)
        storage.compact()
        assert storage.describe().num_deleted_stored == 0
        deleted = {4, 9} | ({8, 10, 11} if step else set()) | ({0, 1, 2, 3} if step > 1 else set())
        storage.service._datasets.get(NAME).remove_retired()
        data = stored_bytes(storage)
        for key in range(12):
            parts = [b"secret number %02d" % key, b"code%02d!!" % key, np.float64(label_of(key)).tobytes()]
            parts += [np.array([key * 1.5] * 2).tobytes(), np.int64(1_000_000 + key).tobytes()]
            found = [part in data for part in parts]
            if key in deleted:
                assert not any(found[: 3 if key == 0 else 4]), f"something of {key} is left"  # zeros are everywhere
            else:
                assert all(found)
        assert [np.float64(late).tobytes() in data for late in (-0.44444, -0.55555)] == [False, True]
        assert live(storage) == [key for key in range(12) if key not in deleted]
        assert storage.verify() == []
    assert storage.append("1", {"text": ["again"] * 4})[0] == KeyRange(4, 8), "batch ids are remembered"
    storage.restart()
    assert live(storage) == [5, 6, 7]


def test_late_labels_of_deleted_samples_are_left_out(storage: StorageServer) -> None:
    storage.register()
    storage.append("one", {"x": np.arange(5), "label": np.arange(5)})
    storage.delete([2])
    answer = storage.set_labels("late", {"key": [2, 3], "label": [7, 8]})
    assert answer.num_corrected == 1
    assert storage.set_labels("none left", {"key": [2], "label": [7]}).num_corrected == 0
    storage.delete([3])
    storage.delete([4])
    for _ in range(2):
        table = read_columns(storage.stub, NAME, interval(), columns=[Column.LABEL])
        assert table.to_pydict() == {"key": [0, 1], "label": [0, 1]}
        storage.compact()
        assert storage.verify() == []
        storage.restart()
    assert storage.set_labels("late", {"key": [2, 3], "label": [7, 8]}).repeated_batch


def test_files_that_still_hold_deleted_samples_are_named(storage: StorageServer, folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(bytes(range(number * 40, number * 40 + 40)))
    storage.register({"format": "binary", "path": str(folder), "record_size": 10, "settle_seconds": 0})
    storage.ingest()
    answer = storage.delete([5])
    assert answer.num_deleted == 1
    assert any(str(folder / "1.bin") in path for path in answer.source_files) or answer.num_source_files >= 1
    storage.compact()
    assert storage.describe().num_in_place == 0
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(12)), batch_size=20))
    assert batch.columns["payload"].to_pylist() == [bytes(range(10 * k, 10 * k + 10)) for k in range(12) if k != 5]
    assert storage.ingest().samples == 0, "the file is as it was, so it is not taken again"
    assert storage.verify() == []


def test_keys_that_do_not_exist_are_refused(storage: StorageServer) -> None:
    storage.register()
    fill(storage)
    with pytest.raises(InvalidInputError, match=r"key 12 does not exist .* expected 0 <= key < 12"):
        storage.delete([0, 12])
    ranges = KeySet(ranges=(KeyRange(10, 13),)).to_proto()
    with pytest.raises(InvalidInputError, match="key 12 does not exist"):
        storage.stub.DeleteSamples(DeleteSamplesRequest(dataset=NAME, keys=ranges))
    assert live(storage) == list(range(12))
