from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import modyn.client.api
import modyn.client.costs
import modyn.client.explanations
import modyn.client.options
import modyn.client.time_axis
from modyn.client import Client
from modyn.client.tabular import file_digest, read_table
from modyn.core.errors import InvalidInputError, NotFoundError
from modyn.core.keysets import KeyRange


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client.embedded(tmp_path / "state", services=["storage"]) as client:
        yield client


def rows(count: int, start: int = 0) -> pa.Table:
    numbers = np.arange(start, start + count)
    return pa.table({"timestamp": numbers * 10, "label": numbers % 3, "x": numbers.astype(np.float32)})


@pytest.mark.parametrize(
    "module",
    [
        modyn.client.api,
        modyn.client.explanations,
        modyn.client.options,
        modyn.client.costs,
        modyn.client.time_axis,
    ],
)
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_append_is_exactly_once_whatever_the_form(client: Client) -> None:
    client.register_dataset("d")
    table = rows(300_000)  # several messages
    first = client.append("d", "a", table)
    assert (first.keys.start, first.keys.end, first.repeated_batch) == (0, 300_000, False)
    again = client.append("d", "a", iter(table.to_batches(max_chunksize=1000)))
    assert (again.keys, again.repeated_batch) == (first.keys, True)
    second = client.append("d", "b", rows(5, 300_000).to_batches()[0])
    assert (second.keys.start, second.keys.end) == (300_000, 300_005)
    description = client.dataset("d")
    assert (description.num_samples, description.num_unlabelled) == (300_005, 0)
    assert [dataset.name for dataset in client.datasets()] == ["d"]
    empty = client.append("d", "c", rows(0))
    assert empty.keys.start == empty.keys.end


def test_read_columns(client: Client) -> None:
    client.register_dataset("d")
    client.append("d", "late", rows(5, 10))
    client.append("d", "early", rows(5))
    by_key = client.read_columns("d")
    assert by_key.column_names == ["key", "timestamp", "label"]
    assert by_key["key"].to_pylist() == list(range(10))
    by_time = client.read_columns("d", columns=["timestamp"], order="event")
    assert by_time["timestamp"].to_pylist() == sorted(by_key["timestamp"].to_pylist())
    part = client.read_columns("d", columns=["label"], start=100, stop=120)
    assert part["key"].to_pylist() == [0, 1]
    chosen = client.read_columns("d", columns=["label"], keys=[KeyRange(1, 3)])
    assert chosen["label"].to_pylist() == [11 % 3, 12 % 3]
    with pytest.raises(InvalidInputError, match="not both"):
        client.read_columns("d", keys=[KeyRange(0, 1)], start=0)


def test_errors_name_what_is_wrong(client: Client) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        client.append("nowhere", "a", rows(1))
    client.register_dataset("d")
    with pytest.raises(InvalidInputError, match="batch id"):
        client.append("d", "", rows(1))


def test_data_that_raise_are_reported_and_not_committed(client: Client) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield rows(10).to_batches()[0]
        raise ZeroDivisionError("in the caller's code")

    client.register_dataset("d")
    with pytest.raises(ZeroDivisionError, match="in the caller's code"):
        client.append("d", "a", broken())
    assert client.dataset("d").num_samples == 0
    assert client.append("d", "a", rows(10)).repeated_batch is False


def test_read_table_by_suffix(tmp_path: Path) -> None:
    from pyarrow import csv, feather, parquet

    table = rows(3)
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.arrow")
    csv.write_csv(table, tmp_path / "a.csv")
    for name in ("a.parquet", "a.arrow", "a.csv"):
        assert read_table(tmp_path / name)["timestamp"].to_pylist() == [0, 10, 20]
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    for name in ("b.parquet", "missing.csv", "a.xls"):
        with pytest.raises(InvalidInputError, match=name):
            read_table(tmp_path / name)
    assert file_digest(tmp_path / "a.csv") == file_digest(tmp_path / "a.csv") != file_digest(tmp_path / "a.parquet")
