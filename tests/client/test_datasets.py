"""Labels, deletion, upkeep and watching of datasets, through the Python client."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import modyn.client.key_lists
from modyn.client import Client
from modyn.client import datasets as client_datasets
from modyn.client.datasets import NewKeys, key_set
from modyn.client.key_lists import parse_keys, read_keys
from modyn.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from modyn.core.keysets import KeyRange, KeySet

N = 1000
TIMES = np.arange(N) * 10


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """With the dataset ``d`` of N samples: sample k has time 10 k, label k modulo 3 and x = k."""
    with Client.embedded(tmp_path / "state", services=["storage"]) as client:
        client.register_dataset("d")
        client.append("d", "all", pa.table({"timestamp": TIMES, "label": np.arange(N) % 3, "x": np.arange(N) / 2}))
        yield client


def labels(client: Client, keys: Any, **as_of: int) -> list[Any]:
    found: list[Any] = client.read_columns("d", columns=["label"], keys=keys, **as_of)["label"].to_pylist()  # type: ignore[arg-type]
    return found


# ------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("keys", "values", "times"),
    [
        ([3, 1], [7, None], [20_000, 20_000]),
        (np.array([3, 1]), np.array([7.0, np.nan]), np.array([20_000, 20_000])),
        (pa.array([3, 1]), pa.array([7, None]), 20_000),
        (pa.chunked_array([[3], [1]]), pa.chunked_array([[7], [None]], pa.int64()), pa.array([20_000, 20_000])),
        ([3, 1], [7, None], np.array([20_000, 20_000], dtype="datetime64[s]")),
    ],
)
def test_labels_in_any_form(client: Client, keys: Any, values: Any, times: Any) -> None:
    done = client.set_labels("d", "fix", keys, values, times)
    assert (done.version, done.num_labels, done.num_corrected, done.repeated_batch) == (1, 2, 2, False)
    assert client.set_labels("d", "fix", keys, values, times) == done._replace(repeated_batch=True)
    assert labels(client, [1, 2, 3]) == [None, 2, 7]


def test_labels_as_they_were_known(client: Client) -> None:
    client.set_labels("d", "one", [0], [5], [20_000])
    second = client.set_labels("d", "two", [0], [6], 30_000)
    assert labels(client, [0]) == [6]
    assert labels(client, [0], label_time=29_999) == [5]
    assert labels(client, [0], label_time=19_999) == [0]
    assert [labels(client, [0], label_version=version) for version in range(3)] == [[0], [5], [6]]
    assert labels(client, [0], label_arrival=second.arrival) == [6]
    assert labels(client, [0], label_arrival=0) == [None]
    (batch,) = client.read_samples("d", [0], label_version=1)
    assert batch.labels.to_pylist() == [5]


def test_labels_without_a_time_are_known_from_now_on(client: Client) -> None:
    done = client.set_labels("d", "now", [0], [9])
    assert (labels(client, [0]), labels(client, [0], label_time=done.arrival - 1)) == ([9], [0])


@pytest.mark.parametrize(
    ("keys", "values", "says"),
    [
        ([1, 2], [1], "different lengths"),
        ([1, 1], [1, 2], "more than once"),
        ([N], [1], "do not exist"),
        ([1.5], [1], "whole numbers"),
        ([[1]], [1], "whole numbers"),
        ([1], ["cat"], "label"),
        ([1, 2], [1, "cat"], "labels"),
        (pa.array([1, None]), [1, 2], "missing in 1 row"),
    ],
)
def test_wrong_labels_are_refused_whole(client: Client, keys: Any, values: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        client.set_labels("d", "wrong", keys, values)
    assert client.dataset("d").label_version == 0


# ----------------------------------------------------------------------------------------------- deletion


def test_deleted_samples_are_never_seen_again(client: Client) -> None:
    done = client.delete_samples("d", [5, 3, 4, 999])
    assert done == (4, 0, [], 0)
    assert client.delete_samples("d", [KeyRange(0, 6)]) == (3, 3, [], 0)
    left = client.read_columns("d")["key"].to_pylist()
    assert left == list(range(6, 999))
    assert client.read_columns("d", keys=[3, 6])["key"].to_pylist() == [6]
    (batch,) = client.read_samples("d", [999, 7, 3])
    assert batch.keys.tolist() == [7]
    described = client.dataset("d")
    assert (described.num_samples, described.num_deleted, described.num_deleted_stored) == (993, 7, 7)
    client.compact("d")
    assert client.dataset("d").num_deleted_stored == 0
    assert client.verify("d").damaged == []


def test_a_deletion_of_many_requests_is_checked_before_any(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_datasets, "KEYS_PER_DELETION", 100)
    for beyond in (N + 1, 10**18):
        with pytest.raises(InvalidInputError, match="end key is 1000"):
            client.delete_samples("d", [KeyRange(0, beyond)])
    assert client.dataset("d").num_deleted == 0
    assert client.delete_samples("d", [KeyRange(0, 250), KeyRange(300, 301), KeyRange(500, N)]).num_deleted == 751
    assert client.dataset("d").num_samples == 249


def test_scattered_keys_of_several_messages(client: Client) -> None:
    client.append("d", "more", pa.table({"timestamp": np.zeros(400_000, np.int64), "x": np.zeros(400_000)}))
    random = np.random.default_rng(0)
    keys = random.permutation(N + 400_000)[:200_000]
    assert client.delete_samples("d", keys).num_deleted == 200_000
    assert client.delete_samples("d", keys[:10]).num_deleted_before == 10
    assert client.dataset("d").num_samples == N + 200_000


def test_the_files_that_samples_came_from_are_named(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.parquet", "b.parquet", "sub/c.parquet")):
        rows = pa.table({"t": np.arange(number * 10, number * 10 + 10), "x": np.zeros(10)})
        parquet.write_table(rows, folder / name)
    source = {"format": "parquet", "path": str(folder), "timestamp": "t", "settle_seconds": 0}
    client.register_dataset("files", source)
    seen: list[int] = []
    assert client.ingest("files", lambda progress: seen.append(progress.files_done)) == (3, 30, 0, 30)
    assert seen[-1] == 3
    done = client.delete_samples("files", [KeyRange(15, 21)])
    assert done.source_files == [str(folder / "b.parquet"), str(folder / "sub/c.parquet")]
    assert done.num_source_files == 2


# -------------------------------------------------------------------------------------------------- upkeep


def test_compaction_joins_and_verification_finds_damage(client: Client, tmp_path: Path) -> None:
    for number in range(5):
        client.append("d", str(number), pa.table({"timestamp": [number], "label": [0], "x": [0.5]}))
    before = client.read_columns("d")
    steps: list[int] = []
    done = client.compact("d", lambda progress: steps.append(progress.samples_done))
    assert (done.segments_before, done.segments_after) == (6, 1)
    assert steps[-1] == N + 5
    assert client.read_columns("d") == before
    found = client.verify("d")
    assert found.files >= 2
    assert found.damaged == []
    (payload,) = (tmp_path / "state").glob("datasets/*/segments/*/payload.arrow")
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.write_bytes(data)
    (reason,) = client.verify("d").damaged
    assert str(payload) in reason


def test_watching_from_a_cursor_and_from_now(client: Client) -> None:
    watching = client.watch_dataset("d", 990)
    first = next(watching)
    assert first.keys == KeyRange(990, N)
    watching.close()  # type: ignore[attr-defined]
    with pytest.raises(InvalidInputError, match="cursor"):
        next(client.watch_dataset("d", N + 1))
    client.append("d", "next", pa.table({"timestamp": [1], "label": [1], "x": [0.5]}))
    assert next(client.watch_dataset("d", N)) == NewKeys(KeyRange(N, N + 1), client.dataset("d").last_arrival)


# --------------------------------------------------------------------------------------------------- roles


def test_roles(client: Client) -> None:
    client.register_dataset("held-out", role="test")
    client.register_dataset("held-out")
    with pytest.raises(AlreadyExistsError, match="role test"):
        client.register_dataset("held-out", role="train")
    client.append("held-out", "all", pa.table({"timestamp": [1, 2], "x": [0.5, 0.5]}))
    assert client.read_columns("held-out", columns=["role"])["role"].to_pylist() == [3, 3]
    assert client.dataset("held-out").num_test == 2


# ------------------------------------------------------------------------------------------- keys as text


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(modyn.client.key_lists)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_keys_as_text_equal_a_plain_reading() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        firsts = random.integers(0, 50, random.integers(1, 12))
        lengths = random.integers(0, 5, len(firsts))
        words = [str(f) if n == 0 else f"{f}-{f + n}" for f, n in zip(firsts.tolist(), lengths.tolist(), strict=True)]
        expected = sorted({key for f, n in zip(firsts, lengths, strict=True) for key in range(f, f + n + 1)})
        assert parse_keys(random.choice([",", " ", ", ", "\n"]).join(words), "--keys").to_array().tolist() == expected


@pytest.mark.parametrize("text", ["x", "1-", "-1", "1-2-3", "3-1", "1.5", "1,,x", str(2**63), f"1-{2**63 - 1}"])
def test_what_is_no_key_is_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match="--keys"):
        parse_keys(text, "--keys")


def test_key_files(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("3\n1-2\n\n3\n")
    parquet.write_table(pa.table({"key": [3, 1, 2, 3], "note": list("abcd")}), tmp_path / "keys.parquet")
    (tmp_path / "keys.csv").write_text("key\n3\n1\n2\n")
    for name in ("keys.txt", "keys.parquet", "keys.csv"):
        assert read_keys(tmp_path / name).to_array().tolist() == [1, 2, 3]
    (tmp_path / "other.csv").write_text("id\n3\n")
    (tmp_path / "null.csv").write_text("key,x\n3,1\n,2\n")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("other.csv", "null.csv", "latin.txt", "missing.txt", "missing.csv"):
        with pytest.raises(InvalidInputError, match=name):
            read_keys(tmp_path / name)


def test_key_sets_of_what_people_have() -> None:
    assert key_set([KeyRange(1, 3)]).ranges == (KeyRange(1, 3),)
    assert key_set(pa.array([1, 2, 3])).to_array().tolist() == [1, 2, 3]
    assert key_set([1, 2, 3], single=True).array is not None
    assert len(key_set([])) == 0
    known = KeySet.from_ranges([])
    assert key_set(known) is known


def test_unknown_datasets_are_not_found(client: Client) -> None:
    for call in (client.ingest, client.verify, client.compact, lambda name: next(client.watch_dataset(name))):
        with pytest.raises(NotFoundError, match="'e'"):
            call("e")
