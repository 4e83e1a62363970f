"""The contract of file formats: whatever is registered must keep a sample's parts together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modyn.core.globs import glob_regex
from modyn.core.keysets import KeySet
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.core.values import from_value
from modyn.storage.reader import Column, Order, read_columns, read_samples
from tests.storage.samples import CASES, FormatCase, label_of, timestamp_of, write_stream
from tests.storage.support import NAME, StorageServer, interval, settle

COUNT = 200


@pytest.fixture(params=FORMATS.names())
def case(request: pytest.FixtureRequest, folder: Path, storage: StorageServer) -> FormatCase:
    """A format whose samples are ingested."""
    assert request.param in CASES, f"tests/storage/samples.py has no case for the format {request.param!r}"
    case = CASES[request.param]
    write_stream(case, folder, COUNT)
    storage.register({"format": request.param, "path": str(folder), **case.source()})
    progress = storage.ingest()
    assert (progress.samples, progress.quarantined, progress.end_key) == (COUNT, 0, COUNT)
    assert progress.files_done == progress.files_total
    return case


def test_key_label_time_and_bytes_of_a_sample_belong_together(case: FormatCase, storage: StorageServer) -> None:
    keys = np.random.default_rng(1).integers(0, COUNT, 3 * COUNT)  # random order, many twice
    batches = list(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=64))
    assert [len(batch) for batch in batches] == [64] * 9 + [24]
    assert np.array_equal(np.concatenate([batch.keys for batch in batches]), keys)
    number_of_key: dict[int, int] = {}
    for batch in batches:
        for key, number, label, time in zip(
            batch.keys.tolist(),
            case.numbers(batch.columns),
            batch.labels.to_pylist(),
            batch.timestamps.tolist(),
            strict=True,
        ):
            assert number_of_key.setdefault(key, number) == number
            assert label == label_of(number, always=case.always_labelled)
            assert time == timestamp_of(number)
    everything = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(COUNT)), batch_size=COUNT))
    assert sorted(case.numbers(everything.columns)) == list(range(COUNT))


def test_keys_follow_time(case: FormatCase, storage: StorageServer) -> None:
    table = read_columns(storage.stub, NAME, interval(), columns=[Column.TIMESTAMP], order=Order.KEY)
    assert table["key"].to_pylist() == list(range(COUNT))
    assert table["timestamp"].to_pylist() == sorted(timestamp_of(number) for number in range(COUNT))


def test_describe_counts_the_samples(case: FormatCase, storage: StorageServer) -> None:
    described = storage.describe()
    unlabelled = sum(label_of(number, always=case.always_labelled) is None for number in range(COUNT))
    assert (described.num_samples, described.num_unlabelled, described.num_superseded) == (COUNT, unlabelled, 0)
    assert described.first_timestamp == min(map(timestamp_of, range(COUNT)))
    assert described.last_timestamp == max(map(timestamp_of, range(COUNT)))
    assert described.num_segments == 1
    assert not described.quarantined


def test_a_second_ingest_finds_nothing_new(case: FormatCase, storage: StorageServer) -> None:
    assert storage.ingest().samples == 0
    storage.restart()
    assert storage.ingest().samples == 0
    assert storage.describe().num_samples == COUNT


def test_an_empty_file_holds_no_samples(case: FormatCase, storage: StorageServer, folder: Path) -> None:
    if case.listed:
        pytest.skip("files that the format does not list are none of its")
    source = FORMATS.parse(_source(storage))
    samples = next(path for path in sorted(folder.rglob("*")) if _is_of(source, path))
    empty = samples.with_name("empty" + "".join(samples.suffixes))
    empty.touch()
    settle(empty)
    assert storage.ingest().files_done == 1
    assert (storage.describe().num_samples, len(storage.describe().quarantined)) == (COUNT, 0)
    assert storage.ingest().files_done == 0


def _is_of(source: SourceFormat, path: Path) -> bool:
    name = path.relative_to(source.path).as_posix()
    return path.is_file() and glob_regex(source.file_pattern).fullmatch(name) is not None


def _source(storage: StorageServer) -> dict[str, object]:
    source: dict[str, object] = from_value(storage.describe().source)
    return source


@pytest.mark.parametrize("name", FORMATS.names())
def test_unreadable_files_are_quarantined_with_a_reason(name: str, folder: Path, storage: StorageServer) -> None:
    case = CASES[name]
    good = case.write(folder, "good", list(range(20)))
    bad = case.write(folder, "bad", list(range(20, 40)))[0]
    for path in (*good, bad):
        settle(path)
    content = bad.read_bytes()
    case.spoil(bad)
    settle(bad)
    storage.register({"format": name, "path": str(folder), "settle_seconds": 0, **case.source()})
    progress = storage.ingest()
    assert progress.quarantined == 1
    described = storage.describe()
    assert [entry.path for entry in described.quarantined] == [bad.relative_to(folder).as_posix()]
    assert len(described.quarantined[0].reason) > 10
    assert described.num_samples == (39 if case.file_time_only else 20)

    assert storage.ingest().files_done == 0, "it is not tried again before it changes"
    bad.write_bytes(content)
    if case.file_time_only:
        bad.with_suffix(".label").unlink(missing_ok=True)
    progress = storage.ingest()
    assert progress.files_done == 1
    assert not storage.describe().quarantined
    assert storage.describe().num_samples == 40
