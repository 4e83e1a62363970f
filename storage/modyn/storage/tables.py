"""The storage service's tables in the catalog: datasets, commits, segments and quarantined files.

Nothing here grows with the number of samples or files: those are columns on disk, one row per commit and segment.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only in INTEGER primary keys

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("folder", sa.String(32), nullable=False),  # below the state's datasets folder
    sa.Column(
        "source", sa.JSON(none_as_null=True), nullable=True
    ),  # the data.source section, null for append-only datasets
    sa.Column("payload_schema", sa.LargeBinary, nullable=True),  # Arrow IPC; set by the first samples
    sa.Column("label_schema", sa.LargeBinary, nullable=True),  # Arrow IPC; set by the first labels
    sa.Column("end_key", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("name", name="uq_datasets_name"),
)

commits = sa.Table(
    "dataset_commits",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("dataset_id", _Id, sa.ForeignKey("datasets.id", name="fk_dataset_commits_dataset"), nullable=False),
    sa.Column("batch_id", sa.String(200), nullable=True),  # of an Append
    sa.Column("first_key", sa.BigInteger, nullable=False),
    sa.Column("end_key", sa.BigInteger, nullable=False),
    sa.Column("arrival", sa.BigInteger, nullable=False),  # Unix seconds, never decreasing within a dataset
    sa.Column("manifest", sa.String(32), nullable=True),  # folder with the files of a scan
    sa.Column("num_new_files", sa.BigInteger, nullable=False),
    sa.Column("num_superseded", sa.BigInteger, nullable=False),  # samples superseded by this commit
    sa.UniqueConstraint("dataset_id", "batch_id", name="uq_dataset_commits_batch"),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("dataset_id", _Id, sa.ForeignKey("datasets.id", name="fk_segments_dataset"), nullable=False),
    sa.Column("commit_id", _Id, sa.ForeignKey("dataset_commits.id", name="fk_segments_commit"), nullable=False),
    sa.Column("name", sa.String(32), nullable=False),  # folder below the dataset's segments folder
    sa.Column("first_key", sa.BigInteger, nullable=False),
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("num_unlabelled", sa.BigInteger, nullable=False),
    sa.Column("min_timestamp", sa.BigInteger, nullable=False),
    sa.Column("max_timestamp", sa.BigInteger, nullable=False),
    sa.Column("payload_bytes", sa.BigInteger, nullable=False),
    sa.Column("columns_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(40), nullable=False),
    sa.Column("format_version", sa.Integer, nullable=False),
    sa.UniqueConstraint("dataset_id", "first_key", name="uq_segments_first_key"),
)

quarantined_files = sa.Table(
    "quarantined_files",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("dataset_id", _Id, sa.ForeignKey("datasets.id", name="fk_quarantined_files_dataset"), nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # relative to the source's folder
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("ix_quarantined_files_dataset", "dataset_id"),
)
