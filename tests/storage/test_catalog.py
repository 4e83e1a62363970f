"""The storage catalog on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from modyn.core.catalog import Catalog
from modyn.core.errors import ConflictError
from modyn.core.state import StateDirectory
from modyn.storage.catalog import NewCommit, QuarantineRow, StorageCatalog
from modyn.storage.index import Commit
from modyn.storage.segments import SegmentInfo
from modyn.storage.staging import StagedSchema
from modyn.storage.tables import metadata
from tests.storage.support import StorageServer

SCHEMA = StagedSchema(pa.schema([("x", pa.float64()), ("image", pa.binary(3))]), pa.int64())


def segment(name: str, size: int) -> SegmentInfo:
    return SegmentInfo(name, size, 1, -5, 2**40, 100, 50, "d" * 40)


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


def test_what_is_committed_is_loaded_again(storage_catalog: StorageCatalog) -> None:
    source = {"format": "csv", "path": "/data", "label": None}
    row = storage_catalog.add_dataset("stream", "f" * 32, source)
    other = storage_catalog.add_dataset("other", "e" * 32, None)
    assert storage_catalog.all_datasets() == [other, row]
    new = NewCommit([segment("a", 3), segment("b", 2)], SCHEMA, manifest="m", num_new_files=4, num_superseded=0)
    assert storage_catalog.add_commit(row.id, new, arrival=77, expected_end_key=0) == (Commit(0, 5, 77, 4), False)
    empty = NewCommit([], SCHEMA, manifest="n", num_superseded=3)
    assert storage_catalog.add_commit(row.id, empty, arrival=78, expected_end_key=5) == (Commit(5, 5, 78), False)
    dataset, commits = storage_catalog.load(row.id)
    assert (dataset.source, dataset.schema) == (source, SCHEMA)
    assert [c.commit for c in commits] == [Commit(0, 5, 77, 4), Commit(5, 5, 78)]
    assert [c.segments for c in commits] == [[segment("a", 3), segment("b", 2)], []]
    assert [(c.manifest, c.num_superseded) for c in commits] == [("m", 0), ("n", 3)]
    assert storage_catalog.load(other.id)[1] == []


def test_a_batch_id_is_committed_once(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None)
    twin = storage_catalog.add_dataset("twin", "e" * 32, None)
    new = NewCommit([segment("a", 3)], SCHEMA, batch_id="one")
    first = storage_catalog.add_commit(row.id, new, arrival=7, expected_end_key=0)
    assert first == (Commit(0, 3, 7), False)
    assert storage_catalog.find_batch(row.id, "one") == first[0]
    assert storage_catalog.find_batch(twin.id, "one") is None
    again = NewCommit([segment("b", 3)], SCHEMA, batch_id="one")
    assert storage_catalog.add_commit(row.id, again, arrival=8, expected_end_key=3) == (first[0], True)
    assert storage_catalog.add_commit(twin.id, again, arrival=8, expected_end_key=0)[1] is False


def test_a_second_writer_is_noticed(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None)
    storage_catalog.add_commit(row.id, NewCommit([segment("a", 3)], SCHEMA), arrival=7, expected_end_key=0)
    with pytest.raises(ConflictError, match="another process has written"):
        storage_catalog.add_commit(row.id, NewCommit([segment("b", 3)], SCHEMA), arrival=7, expected_end_key=0)
    assert len(storage_catalog.load(row.id)[1]) == 1


def test_a_failed_commit_leaves_nothing(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None)
    wrong = SegmentInfo("b", 3, None, 0, 0, 0, 0, "d" * 40)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        storage_catalog.add_commit(row.id, NewCommit([segment("a", 3), wrong], SCHEMA), arrival=7, expected_end_key=0)
    dataset, commits = storage_catalog.load(row.id)
    assert (dataset.schema, commits) == (StagedSchema(None, None), [])


def test_quarantine_keeps_the_newest_word_on_a_file(storage_catalog: StorageCatalog) -> None:
    row = storage_catalog.add_dataset("stream", "f" * 32, None)
    files = [QuarantineRow(f"a/ü'\"{i}.csv", 2**40, 2**60 + i, 1, "reason 'quoted' %", i) for i in range(1_200)]
    storage_catalog.quarantine(row.id, files)
    changed = QuarantineRow(files[3].path, 1, 2, 3, "other", 9)
    storage_catalog.quarantine(row.id, [changed])
    expected = sorted([*files[:3], changed, *files[4:]], key=lambda f: f.at if f is not changed else 3)
    assert sorted(storage_catalog.quarantined(row.id), key=lambda f: f.at if f.reason != "other" else 3) == expected
    storage_catalog.release(row.id, [file.path for file in files[1:]])
    assert [file.path for file in storage_catalog.quarantined(row.id)] == [files[0].path]


def test_names_are_unique(storage_catalog: StorageCatalog) -> None:
    storage_catalog.add_dataset("stream", "f" * 32, None)
    with pytest.raises(IntegrityError):
        storage_catalog.add_dataset("stream", "e" * 32, None)


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


def test_a_lost_answer_of_the_database_loses_and_doubles_nothing(
    any_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit takes place, but its caller only sees an error."""
    storage = StorageServer(
        StateDirectory(tmp_path / "state").create(), any_catalog.url.render_as_string(hide_password=False)
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.csv").write_text("x\n1\n2\n")
    storage.register({"format": "csv", "path": str(tmp_path / "source"), "settle_seconds": 0})
    original = StorageCatalog.add_commit

    def lose_answer(*args: object, **options: object) -> object:
        original(*args, **options)  # type: ignore[arg-type]
        raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    for call in (storage.ingest, lambda: storage.append("one", {"x": [3]})):
        monkeypatch.setattr(StorageCatalog, "add_commit", lose_answer)
        with pytest.raises(Exception, match="connection lost"):
            call()
        monkeypatch.setattr(StorageCatalog, "add_commit", original)
        call()
    described = storage.describe()
    assert (described.num_samples, described.end_key, described.num_segments) == (3, 3, 2)
    storage.stop()
