"""Datasets, commits, segments and quarantined files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "datasets",
        sa.Column("id", identity, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("folder", sa.String(32), nullable=False),
        sa.Column("source", sa.JSON, nullable=True),
        sa.Column("payload_schema", sa.LargeBinary, nullable=True),
        sa.Column("label_schema", sa.LargeBinary, nullable=True),
        sa.Column("end_key", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("name", name="uq_datasets_name"),
    )
    op.create_table(
        "dataset_commits",
        sa.Column("id", identity, primary_key=True),
        sa.Column(
            "dataset_id", identity, sa.ForeignKey("datasets.id", name="fk_dataset_commits_dataset"), nullable=False
        ),
        sa.Column("batch_id", sa.String(200), nullable=True),
        sa.Column("first_key", sa.BigInteger, nullable=False),
        sa.Column("end_key", sa.BigInteger, nullable=False),
        sa.Column("arrival", sa.BigInteger, nullable=False),
        sa.Column("manifest", sa.String(32), nullable=True),
        sa.Column("num_new_files", sa.BigInteger, nullable=False),
        sa.Column("num_superseded", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("dataset_id", "batch_id", name="uq_dataset_commits_batch"),
    )
    op.create_table(
        "segments",
        sa.Column("id", identity, primary_key=True),
        sa.Column("dataset_id", identity, sa.ForeignKey("datasets.id", name="fk_segments_dataset"), nullable=False),
        sa.Column(
            "commit_id", identity, sa.ForeignKey("dataset_commits.id", name="fk_segments_commit"), nullable=False
        ),
        sa.Column("name", sa.String(32), nullable=False),
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
    op.create_table(
        "quarantined_files",
        sa.Column("id", identity, primary_key=True),
        sa.Column(
            "dataset_id", identity, sa.ForeignKey("datasets.id", name="fk_quarantined_files_dataset"), nullable=False
        ),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_quarantined_files_dataset", "quarantined_files", ["dataset_id"])
