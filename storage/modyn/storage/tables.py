"""The storage service's tables in the catalog.

Nothing here grows with the number of samples or good files: those are columns on disk. ``appended_batches`` and
``label_batches`` have one row per call and are only ever looked up by batch id.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only in INTEGER primary keys


def _dataset_id(table: str, *, primary_key: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey("datasets.id", name=f"fk_{table}_dataset")
    return sa.Column("dataset_id", _Id, key, nullable=False, primary_key=primary_key)


datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("folder", sa.String(32), nullable=False),  # below the state's datasets folder
    sa.Column(
        "source", sa.JSON(none_as_null=True), nullable=True
    ),  # the data.source section, null for append-only datasets
    sa.Column("role", sa.SmallInteger, nullable=False),  # of samples that nothing gives another
    sa.Column("payload_schema", sa.LargeBinary, nullable=True),  # Arrow IPC; set by the first samples
    sa.Column("label_schema", sa.LargeBinary, nullable=True),  # Arrow IPC; set by the first labels
    sa.Column("version", sa.BigInteger, nullable=False),  # counts changes of whatever else is said of the dataset
    sa.Column("end_key", sa.BigInteger, nullable=False),
    sa.Column("last_arrival", sa.BigInteger, nullable=True),  # Unix seconds; never decreases
    sa.Column("num_files", sa.BigInteger, nullable=False),
    sa.Column("label_version", sa.BigInteger, nullable=False),  # number of label batches
    sa.UniqueConstraint("name", name="uq_datasets_name"),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    _dataset_id("segments"),
    sa.Column("name", sa.String(32), nullable=False),  # folder below the dataset's segments folder
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("first_key", sa.BigInteger, nullable=False),
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("num_unlabelled", sa.BigInteger, nullable=False),
    sa.Column("min_timestamp", sa.BigInteger, nullable=False),
    sa.Column("max_timestamp", sa.BigInteger, nullable=False),
    sa.Column("min_arrival", sa.BigInteger, nullable=False),
    sa.Column("max_arrival", sa.BigInteger, nullable=False),
    sa.Column("role", sa.SmallInteger, nullable=True),  # null: they differ, a column says which
    sa.Column("payload_bytes", sa.BigInteger, nullable=False),
    sa.Column("columns_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(40), nullable=False),
    sa.Column("format_version", sa.Integer, nullable=False),
    sa.UniqueConstraint("dataset_id", "first_key", name="uq_segments_dataset_first_key"),
)

appended_batches = sa.Table(
    "appended_batches",
    metadata,
    _dataset_id("appended_batches", primary_key=True),
    sa.Column("batch_id", sa.String(200), primary_key=True),
    sa.Column("first_key", sa.BigInteger, nullable=False),
    sa.Column("end_key", sa.BigInteger, nullable=False),
    sa.Column("arrival", sa.BigInteger, nullable=False),
)

scans = sa.Table(
    "scans",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    _dataset_id("scans"),
    sa.Column("manifest", sa.String(32), nullable=False),  # folder with the files of the scan
    sa.Column("first_key", sa.BigInteger, nullable=False),
    sa.Column("end_key", sa.BigInteger, nullable=False),
    sa.Column("num_superseded", sa.BigInteger, nullable=False),  # samples superseded by this scan
    sa.Index("ix_scans_dataset", "dataset_id"),
)

label_files = sa.Table(
    "label_files",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    _dataset_id("label_files"),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("first_version", sa.BigInteger, nullable=False),
    sa.Column("last_version", sa.BigInteger, nullable=False),
    sa.Column("min_arrival", sa.BigInteger, nullable=False),
    sa.Column("max_arrival", sa.BigInteger, nullable=False),
    sa.Column("num_labels", sa.BigInteger, nullable=False),
    sa.Column("min_key", sa.BigInteger, nullable=False),
    sa.Column("max_key", sa.BigInteger, nullable=False),
    sa.Column("num_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(40), nullable=False),
    sa.Index("ix_label_files_dataset", "dataset_id"),
)

label_batches = sa.Table(
    "label_batches",
    metadata,
    _dataset_id("label_batches", primary_key=True),
    sa.Column("batch_id", sa.String(200), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("arrival", sa.BigInteger, nullable=False),
    sa.Column("num_labels", sa.BigInteger, nullable=False),
    sa.Column("num_corrected", sa.BigInteger, nullable=False),
    sa.Column("end_key", sa.BigInteger, nullable=False),  # of the dataset, when the batch was committed
)

deletions = sa.Table(
    "deletions",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    _dataset_id("deletions"),
    sa.Column("name", sa.String(32), nullable=False),  # file with the key ranges
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("num_stored", sa.BigInteger, nullable=False),  # samples whose bytes are still there
    sa.Column("num_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(40), nullable=False),
    sa.Index("ix_deletions_dataset", "dataset_id"),
)

leases = sa.Table(
    "writing_leases",
    metadata,
    _dataset_id("writing_leases", primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("who", sa.String(200), nullable=False),  # for messages
    sa.Column("expires_at", sa.Double, nullable=False),  # Unix seconds by the database's clock
)

quarantined_files = sa.Table(
    "quarantined_files",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    _dataset_id("quarantined_files"),
    sa.Column("path", sa.Text, nullable=False),  # relative to the source's folder
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("ix_quarantined_files_dataset", "dataset_id"),
)
