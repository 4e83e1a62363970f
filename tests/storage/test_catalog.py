"""The storage catalog on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from modyn.core.catalog import Catalog
from modyn.core.digests import digest_file
from modyn.core.errors import ConflictError, UnavailableError
from modyn.core.files import write_batch
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import ReadColumnsRequest, Role
from modyn.storage import catalog as storage_catalog_module
from modyn.storage.catalog import (
    Change,
    DatasetRow,
    DeletionInfo,
    Fence,
    LabelBatchRow,
    QuarantineRow,
    ScanRow,
    StorageCatalog,
)
from modyn.storage.index import AppendedBatch
from modyn.storage.label_files import LabelFileInfo
from modyn.storage.manifest import FileRuns, FileVersion, write_manifest
from modyn.storage.reader import read_columns, read_samples
from modyn.storage.segments import ARROW, COLUMNS_FILE, PAYLOAD_FILE, Columns, SegmentInfo, write_segment
from modyn.storage.staging import StagedSchema
from modyn.storage.tables import metadata
from tests.storage.support import NAME, StorageServer, interval

SCHEMA = StagedSchema(pa.schema([("x", pa.float64()), ("image", pa.binary(3))]), pa.int64())
HOLDER = "holder"


def segment(name: str, first_key: int, size: int, arrival: int = 77) -> SegmentInfo:
    return SegmentInfo(name, ARROW, first_key, size, 1, -5, 2**40, arrival, arrival, Role.ANY, 100, 50, "d" * 32)


def label_file(name: str, version: int) -> LabelFileInfo:
    return LabelFileInfo(name, version, version, 78, 78, 3, 0, 4, 200, "e" * 32)


@pytest.fixture
def storage_catalog(any_catalog: Catalog) -> StorageCatalog:
    return StorageCatalog(any_catalog)


def test_migrations_make_exactly_the_tables_of_the_code(any_catalog: Catalog) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    StorageCatalog(any_catalog)
    StorageCatalog(any_catalog)  # a second start changes nothing
    with any_catalog.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": "alembic_version_storage"}
        )
        assert compare_metadata(context, metadata) == []


@contextmanager
def changed(catalog: StorageCatalog, row: DatasetRow) -> Iterator[Change]:
    """A change by the holder of the lease, after which the dataset is as the row says."""
    catalog.take_lease(row.id, HOLDER, "me", 60, lambda _: False)
    with catalog.change(row.id, Fence(HOLDER, row.version)) as change:
        change.update(row)
        yield change


def test_what_is_committed_is_loaded_again(storage_catalog: StorageCatalog) -> None:
    source = {"format": "csv", "path": "/data", "label": None}
    row = storage_catalog.add_dataset("stream", "f" * 32, source, Role.TRAIN)
    other = storage_catalog.add_dataset("other", "e" * 32, None, Role.ANY)
    assert storage_catalog.all_datasets() == [other, row]
    row = replace(row, schema=SCHEMA, end_key=5, last_arrival=77, num_files=4)
    scan, batch = ScanRow("m", 0, 3, 0), AppendedBatch(3, 5, 77)
    with changed(storage_catalog, row) as change:
        change.add_segments([segment("a", 0, 3), segment("b", 3, 2)])
        change.add_scan(scan, [])
        change.add_batches([("one", batch)])
    row = replace(row, version=1, last_arrival=78, label_version=1)
    labels, deletion = label_file("l", 1), DeletionInfo("d", 2, 2, 300, "c" * 32)
    with changed(storage_catalog, row) as change:
        change.add_label_files([labels])
        change.add_label_batch("one", LabelBatchRow(1, 78, 3, 1, 5))
        change.add_deletions([deletion])
    state = storage_catalog.load(row.id)
    assert state.row == replace(row, version=2)
    assert state.segments == [segment("a", 0, 3), segment("b", 3, 2)]
    assert (state.scans, state.label_files, state.deletions) == ([scan], [labels], [deletion])
    assert storage_catalog.find_batch(row.id, "one") == batch
    assert storage_catalog.find_label_batch(row.id, "one") == LabelBatchRow(1, 78, 3, 1, 5)
    assert storage_catalog.find_batch(other.id, "one") is None
    assert storage_catalog.load(other.id).segments == []
    with changed(storage_catalog, replace(row, version=2)) as change:
        change.remove_segments(state.segments)
        change.add_segments([replace(segment("c", 0, 5), kind="merged", role=None)])
        change.remove_label_files(["l"])
        change.remove_deletions(["d"])
    state = storage_catalog.load(row.id)
    assert [(info.name, info.role) for info in state.segments] == [("c", None)]
    assert (state.label_files, state.deletions, state.row.version) == ([], [], 3)


def test_a_second_writer_is_noticed(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None, Role.ANY)
    with changed(storage_catalog, replace(row, schema=SCHEMA, end_key=3)) as change:
        change.add_segments([segment("a", 0, 3)])
    with pytest.raises(ConflictError, match="was changed by another process"), changed(storage_catalog, row) as change:
        change.add_segments([segment("b", 3, 3)])
    assert storage_catalog.take_lease(row.id, "other", "somebody else", 60, lambda _: True) is None
    fenced = storage_catalog.change(row.id, Fence(HOLDER, 1))
    with pytest.raises(ConflictError, match="somebody else has taken over"), fenced:
        pass
    storage_catalog.drop_leases("other")
    with pytest.raises(ConflictError, match="taken over"), storage_catalog.change(row.id, Fence(HOLDER, 1)):
        pass
    assert len(storage_catalog.load(row.id).segments) == 1


def test_a_failed_change_leaves_nothing(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None, Role.ANY)
    wrong = replace(segment("b", 3, 3), num_samples=None)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError), changed(storage_catalog, replace(row, schema=SCHEMA, end_key=6)) as change:
        change.add_segments([segment("a", 0, 3), wrong])
    state = storage_catalog.load(row.id)
    assert (state.row, state.segments) == (row, [])


def test_quarantine_keeps_the_newest_word_on_a_file(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None, Role.ANY)
    files = [QuarantineRow(f"a/ü'\"{i}.csv", 2**40, 2**60 + i, 1, "reason 'quoted' %", i) for i in range(1_200)]
    storage_catalog.quarantine(row.id, files)
    changed = QuarantineRow(files[3].path, 1, 2, 3, "other", 9)
    storage_catalog.quarantine(row.id, [changed])
    expected = sorted([*files[:3], changed, *files[4:]], key=lambda f: f.at if f is not changed else 3)
    assert sorted(storage_catalog.quarantined(row.id), key=lambda f: f.at if f.reason != "other" else 3) == expected
    storage_catalog.release(row.id, [file.path for file in files[1:]])
    assert [file.path for file in storage_catalog.quarantined(row.id)] == [files[0].path]


def test_names_are_unique(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None, Role.ANY)
    assert storage_catalog.add_dataset("stream", "e" * 32, None, Role.TEST) == row, "the one that was there before"


def test_the_service_works_on_this_database(any_catalog: Catalog, tmp_path: Path) -> None:
    url = any_catalog.url.render_as_string(hide_password=False)
    storage = StorageServer(StateDirectory(tmp_path / "state").create(), url)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "source" / "b.csv").write_text("z\n1\n2\n")
    storage.register({"format": "csv", "path": str(tmp_path / "source"), "settle_seconds": 0})
    for _ in range(2):
        storage.ingest()
        storage.append("one", {"x": [3]})
        described = storage.describe()
        assert (described.num_samples, described.end_key, len(described.quarantined)) == (3, 3, 1)
        storage.restart()
    storage.stop()


@pytest.mark.parametrize("takes_place", [True, False])
def test_a_lost_answer_of_the_database_loses_and_doubles_nothing(
    any_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_place: bool
) -> None:
    """A transaction takes place or not, and its caller only sees an error."""
    storage = StorageServer(
        StateDirectory(tmp_path / "state").create(), any_catalog.url.render_as_string(hide_password=False)
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.csv").write_text("x,y\n1,1\n2,2\n")
    storage.register({"format": "csv", "path": str(tmp_path / "source"), "label": "y", "settle_seconds": 0})
    original = StorageCatalog.change

    @contextmanager
    def lose_answer(self: StorageCatalog, dataset_id: int, fence: Fence) -> Iterator[Change]:
        with original(self, dataset_id, fence) as change:
            yield change
            if not takes_place:
                raise UnavailableError("connection lost")
        raise UnavailableError("connection lost")

    answers: list[Any] = []
    for call in (
        storage.ingest,
        lambda: storage.append("one", {"x": [3], "label": [3]}),
        lambda: storage.set_labels("one", {"key": [0], "label": [9]}),
        lambda: storage.delete([1]),
    ):
        monkeypatch.setattr(StorageCatalog, "change", lose_answer)
        with pytest.raises(UnavailableError, match="connection lost"):
            call()
        monkeypatch.setattr(StorageCatalog, "change", original)
        answers.append(call())
        check_files(storage)
    described = storage.describe()
    assert (described.num_samples, described.end_key, described.num_segments, described.label_version) == (2, 3, 2, 1)
    assert answers[1] == (KeyRange(2, 3), takes_place)
    assert (answers[2].version, answers[2].repeated_batch) == (1, takes_place)
    assert answers[3].num_deleted + answers[3].num_deleted_before == 1
    table = read_columns(storage.stub, NAME, interval(), columns=[ReadColumnsRequest.LABEL])
    assert table.to_pydict() == {"key": [0, 2], "label": [9, 3]}
    assert storage.verify() == []
    storage.stop()


def check_files(storage: StorageServer) -> None:
    """Nothing lies in the dataset's folders that is not committed."""
    dataset = storage.service._datasets.get(NAME)
    dataset.refresh()
    folders = (dataset.segments_folder, dataset.scans_folder, dataset.labels_folder, dataset.deletions_folder)
    assert {path.name for folder in folders for path in folder.iterdir()} == dataset.file_names()


# ----------------------------------------------------------------------------------------------------- migration


def test_datasets_of_the_first_release_are_read_as_they_are(
    any_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables and files are made by hand: two commits of files, the second with a changed one, and two batches."""
    state = StateDirectory(tmp_path / "state").create()
    only_first = tmp_path / "migrations" / "versions"
    only_first.mkdir(parents=True)
    [script] = storage_catalog_module._MIGRATIONS.glob("0001_*.py")
    (only_first / script.name).write_text(script.read_text())
    any_catalog.migrate("storage", only_first)
    folder = state.folder("datasets") / ("f" * 32)
    values = write_first_release(any_catalog, folder)
    storage = StorageServer(state, any_catalog.url.render_as_string(hide_password=False))
    described = storage.describe()
    assert (described.num_samples, described.end_key, described.num_files, described.num_superseded) == (8, 10, 2, 2)
    assert (described.last_arrival, described.role, described.num_segments) == (104, Role.ANY, 4)
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(10)[::-1]), batch_size=10))
    assert batch.columns["x"].to_pylist() == values[::-1]
    assert batch.labels.to_pylist() == [int(value) % 3 if value else None for value in values[::-1]]
    assert batch.timestamps.tolist() == [int(value) * 10 for value in values[::-1]]
    columns = [ReadColumnsRequest.ARRIVAL, ReadColumnsRequest.ROLE]
    table = read_columns(storage.stub, NAME, interval(), columns=columns)
    assert table["key"].to_pylist() == [2, 3, 4, 5, 6, 7, 8, 9], "superseded samples are not seen"
    assert table["arrival"].to_pylist() == [101, 102, 102, 102, 103, 103, 104, 104]
    assert table["role"].to_pylist() == [Role.ANY] * 8
    assert storage.append("two", {"x": [0.0, 0.0]}) == (KeyRange(8, 10), True), "batch ids are remembered"
    assert [file.path for file in described.quarantined] == ["bad.csv"]
    assert storage.verify() == []
    assert storage.append("three", {"x": [11.0]}) == (KeyRange(10, 11), False)
    assert storage.compact().segments_after == 1
    assert storage.verify() == []
    storage.stop()


def write_first_release(catalog: Catalog, folder: Path) -> list[float]:
    """Values of all samples by key; labels and times follow from them."""
    payload, values = pa.schema([("x", pa.float64())]), [float(value) for value in range(10)]
    schemas = (payload.serialize().to_pybytes(), pa.schema([("label", pa.int64())]).serialize().to_pybytes())
    commits = [  # batch id, keys, arrival, files, superseded keys
        (None, (0, 3), 101, ["a.csv", "b.csv"], None),
        (None, (3, 6), 102, ["a.csv"], (0, 2)),
        ("one", (6, 8), 103, None, None),
        ("two", (8, 10), 104, None, None),
    ]
    with catalog.write() as connection:

        def insert(table: str, **row: object) -> None:
            names = ", ".join(row)
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)

        insert(
            "datasets", id=1, name=NAME, folder="f" * 32, payload_schema=schemas[0], label_schema=schemas[1], end_key=10
        )
        for number, (batch_id, (first, end), arrival, files, superseded) in enumerate(commits, start=1):
            manifest = None if files is None else old_manifest(folder / "scans", files, end - first, superseded)
            gone = 0 if superseded is None else superseded[1] - superseded[0]
            new_files = 2 if number == 1 else 0
            insert(
                "dataset_commits", id=number, dataset_id=1, batch_id=batch_id, first_key=first, end_key=end,
                arrival=arrival, manifest=manifest, num_new_files=new_files, num_superseded=gone,
            )  # fmt: skip
            info = old_segment(folder / "segments", values[first:end])
            insert(
                "segments", dataset_id=1, commit_id=number, name=info.name, first_key=first, num_samples=end - first,
                num_unlabelled=info.num_unlabelled, min_timestamp=info.min_timestamp, max_timestamp=info.max_timestamp,
                payload_bytes=info.payload_bytes, columns_bytes=info.columns_bytes, digest=info.digest,
                format_version=1,
            )  # fmt: skip
        insert("quarantined_files", dataset_id=1, path="bad.csv", size=1, mtime_ns=2, ctime_ns=3, reason="bad", at=4)
    return values


def old_manifest(folder: Path, files: list[str], num_rows: int, superseded: tuple[int, int] | None) -> str:
    rows = np.minimum(np.arange(num_rows) // 2, len(files) - 1)
    runs = FileRuns.of_rows([FileVersion(name, 10, 20) for name in files], rows)
    gone = np.array([] if superseded is None else [superseded], dtype=np.int64).reshape(-1, 2)
    folder.mkdir(parents=True, exist_ok=True)
    return write_manifest(folder, runs, (gone[:, 0], gone[:, 1]))


def old_segment(folder: Path, values: list[float]) -> SegmentInfo:
    """The first release wrote the same two files; its checksums were longer digests, its format version 1."""
    times = np.array([int(value) * 10 for value in values], dtype=np.int64)
    labels = pa.array([int(value) % 3 if value else None for value in values], pa.int64())
    info = write_segment(folder, pa.record_batch({"x": values}), Columns(times, labels))
    old = {b"modyn.segment_format": b"1", b"modyn.payload_digest": digest_file(folder / info.name / PAYLOAD_FILE)}
    path = folder / info.name / COLUMNS_FILE
    with pa.ipc.open_file(path.read_bytes()) as reader:
        batch = reader.get_batch(0)
    size, _ = write_batch(path, batch.replace_schema_metadata(old))
    return replace(info, columns_bytes=size, digest=digest_file(path))
