"""The one class of this service that speaks to the database: a method is a named query in, a value object out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from modyn.core.catalog import Catalog, replace_rows
from modyn.core.errors import ConflictError
from modyn.storage.index import AppendedBatch
from modyn.storage.label_files import LabelFileInfo
from modyn.storage.segments import SegmentInfo
from modyn.storage.staging import StagedSchema
from modyn.storage.tables import (
    appended_batches,
    datasets,
    deletions,
    label_batches,
    label_files,
    leases,
    quarantined_files,
    scans,
    segments,
)

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"
_SEGMENT_COLUMNS = [segments.c[name] for name in SegmentInfo.__dataclass_fields__]
_LABEL_FILE_COLUMNS = [label_files.c[name] for name in LabelFileInfo.__dataclass_fields__]


@dataclass(frozen=True)
class DatasetRow:
    """What is known of a dataset as a whole; see :mod:`modyn.storage.tables`."""

    id: int
    name: str
    folder: str
    source: dict[str, Any] | None
    role: int
    schema: StagedSchema
    version: int = 0
    end_key: int = 0
    last_arrival: int | None = None
    num_files: int = 0
    label_version: int = 0


@dataclass(frozen=True)
class QuarantineRow:
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    reason: str
    at: int


@dataclass(frozen=True)
class ScanRow:
    manifest: str
    first_key: int
    end_key: int
    num_superseded: int


@dataclass(frozen=True)
class LabelBatchRow:
    """What a call of ``SetLabels`` did."""

    version: int
    arrival: int
    num_labels: int
    num_corrected: int
    end_key: int
    """Of the dataset, when the batch was committed: it reached storage before the samples from here on."""


@dataclass(frozen=True)
class DeletionInfo:
    """A file of deleted key ranges."""

    name: str
    num_samples: int
    num_stored: int
    """Samples whose bytes are still there."""
    num_bytes: int
    digest: str


@dataclass(frozen=True)
class DatasetState:
    """Everything committed to a dataset, as one consistent view; segments in key order, the others oldest first."""

    row: DatasetRow
    segments: list[SegmentInfo]
    scans: list[ScanRow]
    label_files: list[LabelFileInfo]
    deletions: list[DeletionInfo]


@dataclass(frozen=True)
class Fence:
    """What has to be true for a change to take place.

    Attributes:
        holder: holds the dataset's writing lease.
        version: the dataset has not changed since.
    """

    holder: str
    version: int


class StorageCatalog:
    """Datasets and what is committed to them, quarantined files, and writing leases."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        catalog.migrate("storage", _MIGRATIONS)

    def all_datasets(self) -> list[DatasetRow]:
        with self._catalog.read() as connection:
            return [_dataset(row) for row in connection.execute(sa.select(datasets).order_by(datasets.c.name))]

    def add_dataset(self, name: str, folder: str, source: dict[str, Any] | None, role: int) -> DatasetRow:
        """Registers a name, or answers the row of one that another process has registered meanwhile."""
        values = {"name": name, "folder": folder, "source": source, "role": role}
        zeros = dict.fromkeys(("version", "end_key", "num_files", "label_version"), 0)
        with self._catalog.write() as connection:
            known = connection.execute(sa.select(datasets).where(datasets.c.name == name)).one_or_none()
            if known is not None:
                return _dataset(known)
            insert = datasets.insert().values(**values, **zeros).returning(datasets.c.id)
            row_id = int(connection.execute(insert).scalar_one())
        return DatasetRow(row_id, name, folder, source, role, StagedSchema(None, None))

    def set_source(self, dataset_id: int, source: dict[str, Any]) -> None:
        with self._catalog.write() as connection:
            connection.execute(datasets.update().where(datasets.c.id == dataset_id).values(source=source))

    def load(self, dataset_id: int) -> DatasetState:
        """Everything committed so far."""
        with self._catalog.read() as connection:
            dataset = connection.execute(sa.select(datasets).where(datasets.c.id == dataset_id)).one()

            def rows(
                table: sa.Table, columns: Sequence[sa.Column[Any]], order: sa.Column[Any]
            ) -> list[tuple[Any, ...]]:
                query = sa.select(*columns).where(table.c.dataset_id == dataset_id).order_by(order)
                return [tuple(row) for row in connection.execute(query)]

            scan_columns = [scans.c[name] for name in ScanRow.__dataclass_fields__]
            deletion_columns = [deletions.c[name] for name in DeletionInfo.__dataclass_fields__]
            return DatasetState(
                _dataset(dataset),
                [SegmentInfo(*row) for row in rows(segments, _SEGMENT_COLUMNS, segments.c.first_key)],
                [ScanRow(*row) for row in rows(scans, scan_columns, scans.c.id)],
                [LabelFileInfo(*row) for row in rows(label_files, _LABEL_FILE_COLUMNS, label_files.c.first_version)],
                [DeletionInfo(*row) for row in rows(deletions, deletion_columns, deletions.c.id)],
            )

    def version(self, dataset_id: int) -> int:
        """Differs once anything committed to the dataset has changed."""
        with self._catalog.read() as connection:
            query = sa.select(datasets.c.version).where(datasets.c.id == dataset_id)
            return int(connection.execute(query).scalar_one())

    def find_batch(self, dataset_id: int, batch_id: str) -> AppendedBatch | None:
        """What an earlier ``Append`` with this batch id added."""
        with self._catalog.read() as connection:
            return _find_batch(connection, dataset_id, batch_id)

    def find_label_batch(self, dataset_id: int, batch_id: str) -> LabelBatchRow | None:
        """What an earlier ``SetLabels`` with this batch id did."""
        columns = [label_batches.c[name] for name in LabelBatchRow.__dataclass_fields__]
        query = sa.select(*columns).where(
            label_batches.c.dataset_id == dataset_id, label_batches.c.batch_id == batch_id
        )
        with self._catalog.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else LabelBatchRow(*row)

    def label_version_before(self, dataset_id: int, key: int) -> int:
        """Number of the last label batch that was committed before a sample was; 0 if there is none."""
        query = sa.select(sa.func.max(label_batches.c.version)).where(
            label_batches.c.dataset_id == dataset_id, label_batches.c.end_key <= key
        )
        with self._catalog.read() as connection:
            return connection.execute(query).scalar_one() or 0

    @contextmanager
    def change(self, dataset_id: int, fence: Fence) -> Iterator[Change]:
        """One transaction that changes a dataset: all of the block or nothing.

        Raises:
            ConflictError: another process writes to the dataset, or has written to it.
        """
        with self._catalog.write() as connection:
            version = connection.execute(
                sa.select(datasets.c.version).where(datasets.c.id == dataset_id).with_for_update()
            ).scalar_one()
            lease = connection.execute(sa.select(leases).where(leases.c.dataset_id == dataset_id)).one_or_none()
            if lease is None or lease.holder != fence.holder:
                who = "another process" if lease is None else lease.who
                raise ConflictError(
                    f"{who} has taken over writing to this dataset; nothing was changed. Send writes there, or try "
                    "again"
                )
            if version != fence.version:
                raise ConflictError("the dataset was changed by another process; nothing was written, try again")
            yield Change(connection, dataset_id)
            connection.execute(
                datasets.update().where(datasets.c.id == dataset_id).values(version=datasets.c.version + 1)
            )

    def settle(self, dataset_id: int) -> None:
        """Returns once no change is under way whose answer was lost: each has taken place by now, or never will."""
        with self._catalog.write() as connection:
            connection.execute(sa.select(datasets.c.id).where(datasets.c.id == dataset_id).with_for_update())

    # --------------------------------------------------------------------------------------------- quarantine

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

    # ------------------------------------------------------------------------------------------------- leases

    def take_lease(
        self, dataset_id: int, holder: str, who: str, seconds: float, is_gone: Callable[[str], bool]
    ) -> str | None:
        """Takes or renews a dataset's writing lease.

        Args:
            holder: names the caller.
            who: the same for people.
            is_gone: tells of another holder whether it is known to be dead, so that its lease need not run out.

        Returns:
            None, or who else holds it.
        """
        with self._catalog.write() as connection:
            connection.execute(  # a row that always exists, so that it can be locked
                sa.select(datasets.c.id).where(datasets.c.id == dataset_id).with_for_update()
            )
            now = self._now(connection)
            row = connection.execute(sa.select(leases).where(leases.c.dataset_id == dataset_id)).one_or_none()
            if row is not None and row.holder != holder and row.expires_at > now and not is_gone(row.holder):
                return str(row.who)
            values = {"dataset_id": dataset_id, "holder": holder, "who": who, "expires_at": now + seconds}
            replace_rows(connection, leases, [values])
            return None

    def renew_leases(self, dataset_ids: Sequence[int], holder: str, seconds: float) -> set[int]:
        """Makes leases that are still the holder's last longer; which these are."""
        renewed: set[int] = set()
        with self._catalog.write() as connection:
            expires_at = self._now(connection) + seconds
            for part in _parts(dataset_ids):
                update = leases.update().where(leases.c.dataset_id.in_(part), leases.c.holder == holder)
                query = update.values(expires_at=expires_at).returning(leases.c.dataset_id)
                renewed.update(connection.execute(query).scalars())
        return renewed

    def drop_leases(self, holder: str) -> None:
        with self._catalog.write() as connection:
            connection.execute(leases.delete().where(leases.c.holder == holder))

    def lease_holder(self, dataset_id: int) -> str | None:
        """Who writes to a dataset, for people."""
        with self._catalog.read() as connection:
            query = sa.select(leases.c.who).where(
                leases.c.dataset_id == dataset_id, leases.c.expires_at > self._now(connection)
            )
            return connection.execute(query).scalar_one_or_none()

    def _now(self, connection: sa.Connection) -> float:
        """By the database's clock, which all holders share."""
        if self._catalog.is_sqlite:
            return time.time()
        return float(connection.execute(sa.text("SELECT EXTRACT(EPOCH FROM clock_timestamp())")).scalar_one())


class Change:
    """What one transaction does to a dataset."""

    def __init__(self, connection: sa.Connection, dataset_id: int) -> None:
        self._connection = connection
        self._dataset_id = dataset_id

    def find_batch(self, batch_id: str) -> AppendedBatch | None:
        return _find_batch(self._connection, self._dataset_id, batch_id)

    def add_batches(self, batches: Sequence[tuple[str, AppendedBatch]]) -> None:
        self._insert(appended_batches, [{"batch_id": batch_id, **asdict(batch)} for batch_id, batch in batches])

    def add_segments(self, infos: Sequence[SegmentInfo]) -> None:
        self._insert(segments, [asdict(info) for info in infos])

    def remove_segments(self, infos: Sequence[SegmentInfo]) -> None:
        self._remove(segments, segments.c.first_key, [info.first_key for info in infos])

    def add_scan(self, scan: ScanRow, released: Sequence[str]) -> None:
        """A scan and the files that are quarantined no longer."""
        self._insert(scans, [asdict(scan)])
        _release(self._connection, self._dataset_id, released)

    def add_label_batch(self, batch_id: str, batch: LabelBatchRow) -> None:
        self._insert(label_batches, [{"batch_id": batch_id, **asdict(batch)}])

    def add_label_files(self, infos: Sequence[LabelFileInfo]) -> None:
        self._insert(label_files, [asdict(info) for info in infos])

    def remove_label_files(self, names: Sequence[str]) -> None:
        self._remove(label_files, label_files.c.name, names)

    def add_deletions(self, infos: Sequence[DeletionInfo]) -> None:
        self._insert(deletions, [asdict(info) for info in infos])

    def remove_deletions(self, names: Sequence[str]) -> None:
        self._remove(deletions, deletions.c.name, names)

    def update(self, row: DatasetRow) -> None:
        """Sets what the row says but for its name, folder, source and version."""
        self._connection.execute(
            datasets.update()
            .where(datasets.c.id == self._dataset_id)
            .values(
                payload_schema=_payload_bytes(row.schema.payload),
                label_schema=_label_bytes(row.schema.label),
                end_key=row.end_key,
                last_arrival=row.last_arrival,
                num_files=row.num_files,
                label_version=row.label_version,
            )
        )

    def _insert(self, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._connection.execute(table.insert(), [{"dataset_id": self._dataset_id, **row} for row in rows])

    def _remove(self, table: sa.Table, column: sa.Column[Any], values: Sequence[Any]) -> None:
        for part in _parts(values):
            self._connection.execute(table.delete().where(table.c.dataset_id == self._dataset_id, column.in_(part)))


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), 500):  # databases limit the parameters of one statement
        yield values[start : start + 500]


def _release(connection: sa.Connection, dataset_id: int, paths: Sequence[str]) -> None:
    for part in _parts(paths):
        connection.execute(
            quarantined_files.delete().where(
                quarantined_files.c.dataset_id == dataset_id, quarantined_files.c.path.in_(part)
            )
        )


def _find_batch(connection: sa.Connection, dataset_id: int, batch_id: str) -> AppendedBatch | None:
    columns = [appended_batches.c[name] for name in AppendedBatch.__dataclass_fields__]
    query = sa.select(*columns).where(
        appended_batches.c.dataset_id == dataset_id, appended_batches.c.batch_id == batch_id
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else AppendedBatch(*row)


def _dataset(row: sa.Row[Any]) -> DatasetRow:
    payload = None if row.payload_schema is None else pa.ipc.read_schema(pa.py_buffer(row.payload_schema))
    label = None if row.label_schema is None else pa.ipc.read_schema(pa.py_buffer(row.label_schema)).field(0).type
    plain = ("version", "end_key", "last_arrival", "num_files", "label_version")
    return DatasetRow(
        row.id,
        row.name,
        row.folder,
        row.source,
        row.role,
        StagedSchema(payload, label),
        **{name: getattr(row, name) for name in plain},
    )


def _payload_bytes(schema: pa.Schema | None) -> bytes | None:
    return None if schema is None else schema.serialize().to_pybytes()


def _label_bytes(label: pa.DataType | None) -> bytes | None:
    return None if label is None else pa.schema([("label", label)]).serialize().to_pybytes()
