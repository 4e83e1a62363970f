from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import CorruptDataError, NotFoundError
from modyn.core.files import TEMPORARY_PREFIX
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.versions import TRAINING_SET_FORMAT_VERSION
from modyn.selector.contentfiles import OPEN_FILES
from modyn.selector.keyfiles import KeyFile, KeyFiles, canonical
from tests.helpers.keys import key_sets


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    return KeyFiles(tmp_path / "sets")


@given(keys=key_sets())
def test_a_file_reads_back(tmp_path_factory: pytest.TempPathFactory, keys: KeySet) -> None:
    folder = tmp_path_factory.mktemp("sets")
    digest = KeyFiles(folder).put(KeyFile("d", keys))
    content = KeyFiles(folder).get(digest)
    assert content.dataset == "d"
    assert content.weights is None
    assert content.keys.to_array().tolist() == keys.to_array().tolist()


@given(keys=key_sets())
def test_the_digest_depends_on_the_keys_not_on_how_they_are_written(
    tmp_path_factory: pytest.TempPathFactory, keys: KeySet
) -> None:
    files = KeyFiles(tmp_path_factory.mktemp("sets"))
    assert files.put(KeyFile("d", keys)) == files.put(KeyFile("d", KeySet(array=keys.to_array())))
    assert files.put(KeyFile("d", keys)) == files.put(KeyFile("d", KeySet.from_array(keys.to_array())))


@given(first=key_sets(), second=key_sets())
def test_digests_are_equal_only_for_equal_content(
    tmp_path_factory: pytest.TempPathFactory, first: KeySet, second: KeySet
) -> None:
    files = KeyFiles(tmp_path_factory.mktemp("sets"))
    same = first.to_array().tolist() == second.to_array().tolist()
    assert (files.put(KeyFile("d", first)) == files.put(KeyFile("d", second))) == same
    assert files.put(KeyFile("d", first)) != files.put(KeyFile("e", first))


@given(keys=key_sets().filter(len), data=st.data())
def test_weights_are_kept_unless_all_are_one(
    tmp_path_factory: pytest.TempPathFactory, keys: KeySet, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.floats(0, 10, width=32), min_size=len(keys), max_size=len(keys)))
    weights = np.array(values, dtype=np.float32)
    files = KeyFiles(tmp_path_factory.mktemp("sets"))
    content = files.get(files.put(KeyFile("d", keys, weights)))
    if (weights == 1).all():
        assert content.weights is None
        assert files.put(KeyFile("d", keys)) == files.put(KeyFile("d", keys, weights))
    else:
        assert content.weights is not None
        assert content.weights.dtype == np.float32
        assert content.weights.tolist() == weights.tolist()
        assert content.keys.to_array().tolist() == keys.to_array().tolist()


def test_a_union_of_ranges_is_stored_as_ranges(files: KeyFiles) -> None:
    digest = files.put(KeyFile("d", KeySet(ranges=(KeyRange(0, 10**12), KeyRange(10**12, 2 * 10**12)))))
    assert files.path(digest).stat().st_size < 2_000
    assert files.get(digest).keys.ranges == (KeyRange(0, 2 * 10**12),)


@given(keys=key_sets())
def test_the_canonical_form_is_the_one_made_from_an_array(keys: KeySet) -> None:
    expected = KeySet.from_array(keys.to_array())
    found = canonical(keys)
    assert found.ranges == expected.ranges
    assert found.to_array().tolist() == expected.to_array().tolist()


def test_files_say_what_they_are(files: KeyFiles) -> None:
    digest = files.put(KeyFile("numbers", KeySet.from_array([3, 1, 2])))
    with pa.ipc.open_file(str(files.path(digest))) as reader:
        metadata = reader.schema.metadata
        assert metadata[b"modyn.format_version"] == str(TRAINING_SET_FORMAT_VERSION).encode()
        assert (metadata[b"modyn.dataset"], metadata[b"modyn.kind"]) == (b"numbers", b"keys")
        assert reader.read_all().column("key").to_pylist() == [3, 1, 2]


@pytest.mark.parametrize("position", [300, 700, -20])
def test_a_damaged_file_is_reported_not_used(files: KeyFiles, tmp_path: Path, position: int) -> None:
    digest = files.put(KeyFile("d", KeySet.from_array(np.arange(100)[::-1])))
    path = files.path(digest)
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match=re.escape(str(path))):
        KeyFiles(tmp_path / "sets").get(digest)


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_file_is_reported(files: KeyFiles, tmp_path: Path, size: int) -> None:
    digest = files.put(KeyFile("d", KeySet.from_array([5, 3, 9])))
    files.path(digest).write_bytes(files.path(digest).read_bytes()[:size])
    with pytest.raises(CorruptDataError, match="run the pipeline again"):
        KeyFiles(tmp_path / "sets").get(digest)


def test_a_changed_value_does_not_pass_the_checksum(files: KeyFiles, tmp_path: Path) -> None:
    digest = files.put(KeyFile("d", KeySet.from_array([5, 3, 9])))
    other = files.put(KeyFile("d", KeySet.from_array([5, 3, 8])))
    files.path(digest).write_bytes(files.path(other).read_bytes())
    with pytest.raises(CorruptDataError, match="does not match its checksum"):
        KeyFiles(tmp_path / "sets").get(digest)


def test_a_missing_file_is_not_found(files: KeyFiles) -> None:
    with pytest.raises(NotFoundError, match="no training set abc"):
        files.get("abc")


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}x.arrow").write_bytes(b"half")
    files = KeyFiles(tmp_path)
    assert list(tmp_path.iterdir()) == []
    files.put(KeyFile("d", KeySet.from_array([1])))
    assert len(list(tmp_path.iterdir())) == 1


def test_only_so_many_files_stay_open(files: KeyFiles) -> None:
    digests = [files.put(KeyFile("d", KeySet.from_array([i]))) for i in range(OPEN_FILES + 10)]
    assert [files.get(digest).keys.to_array()[0] for digest in digests] == list(range(len(digests)))
    assert len(files._open) == OPEN_FILES


def test_files_are_hashed_once_however_many_there_are(files: KeyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    compute = KeyFile.digest

    def digest(content: KeyFile) -> str:
        hashed.append(compute(content))
        return hashed[-1]

    monkeypatch.setattr("modyn.selector.contentfiles.OPEN_FILES", 5)
    digests = [files.put(KeyFile("d", KeySet.from_array([i]))) for i in range(20)]
    monkeypatch.setattr(KeyFile, "digest", digest)
    for _ in range(3):
        assert [files.get(name).keys.to_array()[0] for name in digests] == list(range(len(digests)))
    assert hashed == digests


def test_a_file_that_was_written_since_is_verified_again(files: KeyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modyn.selector.contentfiles.OPEN_FILES", 1)
    digests = [files.put(KeyFile("d", KeySet.from_array([i, 5, i + 1]))) for i in range(2)]
    for digest in digests:
        files.get(digest)
    files.path(digests[0]).write_bytes(files.path(digests[1]).read_bytes())
    with pytest.raises(CorruptDataError, match="does not match its checksum"):
        files.get(digests[0])
