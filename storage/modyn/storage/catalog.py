"""The one class of this service that speaks to the database: a method is a named query in, a value object out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from modyn.core.catalog import Catalog
from modyn.core.errors import ConflictError
from modyn.storage.index import Commit
from modyn.storage.segments import SegmentInfo
from modyn.storage.staging import StagedSchema
from modyn.storage.tables import commits, datasets, quarantined_files, segments

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"
_SEGMENT_COLUMNS = [segments.c[name] for name in SegmentInfo.__dataclass_fields__]


@dataclass(frozen=True)
class DatasetRow:
    id: int
    name: str
    folder: str
    source: dict[str, Any] | None
    schema: StagedSchema


@dataclass(frozen=True)
class QuarantineRow:
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    reason: str
    at: int


@dataclass(frozen=True)
class NewCommit:
    """What a commit adds, before its keys are known."""

    segments: Sequence[SegmentInfo]
    schema: StagedSchema
    arrival: int | None = None
    """Unix seconds; the time of the commit by default."""
    batch_id: str | None = None
    manifest: str | None = None
    num_new_files: int = 0
    num_superseded: int = 0
    released: Sequence[str] = field(default=())
    """Paths that are quarantined no longer."""

    @property
    def num_samples(self) -> int:
        return sum(info.num_samples for info in self.segments)


@dataclass(frozen=True)
class CommitRow:
    commit: Commit
    segments: list[SegmentInfo]
    manifest: str | None
    num_superseded: int


class StorageCatalog:
    """Datasets, commits, segments and quarantined files."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        catalog.migrate("storage", _MIGRATIONS)

    def all_datasets(self) -> list[DatasetRow]:
        with self._catalog.read() as connection:
            return [_dataset(row) for row in connection.execute(sa.select(datasets).order_by(datasets.c.name))]

    def add_dataset(self, name: str, folder: str, source: dict[str, Any] | None) -> DatasetRow:
        """Registers a name that is not taken."""
        values = {"name": name, "folder": folder, "source": source, "end_key": 0}
        with self._catalog.write() as connection:
            row_id = connection.execute(datasets.insert().values(values).returning(datasets.c.id)).scalar_one()
        return DatasetRow(int(row_id), name, folder, source, StagedSchema(None, None))

    def set_source(self, dataset_id: int, source: dict[str, Any]) -> None:
        with self._catalog.write() as connection:
            connection.execute(datasets.update().where(datasets.c.id == dataset_id).values(source=source))

    def load(self, dataset_id: int) -> tuple[DatasetRow, list[CommitRow]]:
        """Everything committed so far, oldest first, as one consistent view."""
        with self._catalog.read() as connection:
            dataset = connection.execute(sa.select(datasets).where(datasets.c.id == dataset_id)).one()
            commit_rows = connection.execute(
                sa.select(commits).where(commits.c.dataset_id == dataset_id).order_by(commits.c.id)
            ).all()
            segment_rows = connection.execute(
                sa.select(segments.c.commit_id, *_SEGMENT_COLUMNS)
                .where(segments.c.dataset_id == dataset_id)
                .order_by(segments.c.first_key)
            ).all()
        by_commit: dict[int, list[SegmentInfo]] = {}
        for commit_id, *fields in segment_rows:
            by_commit.setdefault(commit_id, []).append(SegmentInfo(*fields))
        return _dataset(dataset), [
            CommitRow(_commit(row), by_commit.get(row.id, []), row.manifest, row.num_superseded) for row in commit_rows
        ]

    def find_batch(self, dataset_id: int, batch_id: str) -> Commit | None:
        """The commit of an appended batch."""
        with self._catalog.read() as connection:
            return _find_batch(connection, dataset_id, batch_id)

    def add_commit(
        self, dataset_id: int, new: NewCommit, *, arrival: int, expected_end_key: int
    ) -> tuple[Commit, bool]:
        """Makes segments visible: all of it or nothing.

        Returns:
            The commit, and whether its batch id had been committed before (then nothing was changed).

        Raises:
            ConflictError: another process has written to the dataset.
        """
        with self._catalog.write() as connection:
            row = connection.execute(
                sa.select(datasets.c.end_key).where(datasets.c.id == dataset_id).with_for_update()
            ).one()
            if new.batch_id is not None:
                known = _find_batch(connection, dataset_id, new.batch_id)
                if known is not None:
                    return known, True
            if row.end_key != expected_end_key:
                raise ConflictError(
                    f"another process has written to this dataset (its end key is {row.end_key}, expected "
                    f"{expected_end_key}); only one storage service may write to a catalog at a time"
                )
            commit = Commit(expected_end_key, expected_end_key + new.num_samples, arrival, new.num_new_files)
            self._insert(connection, dataset_id, new, commit)
            return commit, False

    def _insert(self, connection: sa.Connection, dataset_id: int, new: NewCommit, commit: Commit) -> None:
        values = {
            "dataset_id": dataset_id,
            "batch_id": new.batch_id,
            "first_key": commit.first_key,
            "end_key": commit.end_key,
            "arrival": commit.arrival,
            "manifest": new.manifest,
            "num_new_files": new.num_new_files,
            "num_superseded": new.num_superseded,
        }
        commit_id = connection.execute(commits.insert().values(values).returning(commits.c.id)).scalar_one()
        first_key = commit.first_key
        rows = []
        for info in new.segments:
            fields = {name: getattr(info, name) for name in SegmentInfo.__dataclass_fields__}
            rows.append({**fields, "dataset_id": dataset_id, "commit_id": commit_id, "first_key": first_key})
            first_key += info.num_samples
        if rows:
            connection.execute(segments.insert(), rows)
        connection.execute(
            datasets.update()
            .where(datasets.c.id == dataset_id)
            .values(
                end_key=commit.end_key,
                payload_schema=_payload_bytes(new.schema.payload),
                label_schema=_label_bytes(new.schema.label),
            )
        )
        _release(connection, dataset_id, new.released)

    def quarantined(self, dataset_id: int) -> list[QuarantineRow]:
        columns = [quarantined_files.c[name] for name in QuarantineRow.__dataclass_fields__]
        query = sa.select(*columns).where(quarantined_files.c.dataset_id == dataset_id)
        with self._catalog.read() as connection:
            return [QuarantineRow(*row) for row in connection.execute(query.order_by(quarantined_files.c.path))]

    def quarantine(self, dataset_id: int, rows: Sequence[QuarantineRow]) -> None:
        """Sets files aside, in place of what was said of them before."""
        with self._catalog.write() as connection:
            _release(connection, dataset_id, [row.path for row in rows])
            connection.execute(quarantined_files.insert(), [{"dataset_id": dataset_id, **vars(row)} for row in rows])

    def release(self, dataset_id: int, paths: Sequence[str]) -> None:
        """Takes files out of quarantine."""
        with self._catalog.write() as connection:
            _release(connection, dataset_id, paths)


def _release(connection: sa.Connection, dataset_id: int, paths: Sequence[str]) -> None:
    for start in range(0, len(paths), 500):  # databases limit the parameters of one statement
        connection.execute(
            quarantined_files.delete().where(
                quarantined_files.c.dataset_id == dataset_id,
                quarantined_files.c.path.in_(paths[start : start + 500]),
            )
        )


def _find_batch(connection: sa.Connection, dataset_id: int, batch_id: str) -> Commit | None:
    query = sa.select(commits).where(commits.c.dataset_id == dataset_id, commits.c.batch_id == batch_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _commit(row)


def _commit(row: sa.Row[Any]) -> Commit:
    return Commit(row.first_key, row.end_key, row.arrival, row.num_new_files)


def _dataset(row: sa.Row[Any]) -> DatasetRow:
    payload = None if row.payload_schema is None else pa.ipc.read_schema(pa.py_buffer(row.payload_schema))
    label = None if row.label_schema is None else pa.ipc.read_schema(pa.py_buffer(row.label_schema)).field(0).type
    return DatasetRow(row.id, row.name, row.folder, row.source, StagedSchema(payload, label))


def _payload_bytes(schema: pa.Schema | None) -> bytes | None:
    return None if schema is None else schema.serialize().to_pybytes()


def _label_bytes(label: pa.DataType | None) -> bytes | None:
    return None if label is None else pa.schema([("label", label)]).serialize().to_pybytes()
