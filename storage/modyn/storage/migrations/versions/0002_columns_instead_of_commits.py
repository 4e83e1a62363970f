"""One row per segment, batch id and scan instead of commits; late labels, deletions, roles, writing leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _extend_datasets()
    _create_tables()
    _move_commits()
    op.drop_table("segments_0001")
    op.drop_table("dataset_commits")


def _dataset_id(table: str, *, primary_key: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey("datasets.id", name=f"fk_{table}_dataset")
    return sa.Column("dataset_id", _Id, key, nullable=False, primary_key=primary_key)


def _extend_datasets() -> None:
    op.add_column("datasets", sa.Column("role", sa.SmallInteger, nullable=False, server_default="1"))
    for name in ("version", "num_files", "label_version"):
        op.add_column("datasets", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("datasets", sa.Column("last_arrival", sa.BigInteger, nullable=True))


def _create_tables() -> None:
    op.rename_table("segments", "segments_0001")
    op.create_table(
        "segments",
        sa.Column("id", _Id, primary_key=True),
        _dataset_id("segments"),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("first_key", sa.BigInteger, nullable=False),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
        sa.Column("num_unlabelled", sa.BigInteger, nullable=False),
        sa.Column("min_timestamp", sa.BigInteger, nullable=False),
        sa.Column("max_timestamp", sa.BigInteger, nullable=False),
        sa.Column("min_arrival", sa.BigInteger, nullable=False),
        sa.Column("max_arrival", sa.BigInteger, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=True),
        sa.Column("payload_bytes", sa.BigInteger, nullable=False),
        sa.Column("columns_bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(40), nullable=False),
        sa.Column("format_version", sa.Integer, nullable=False),
        sa.UniqueConstraint("dataset_id", "first_key", name="uq_segments_dataset_first_key"),
    )
    op.create_table(
        "appended_batches",
        _dataset_id("appended_batches", primary_key=True),
        sa.Column("batch_id", sa.String(200), primary_key=True),
        sa.Column("first_key", sa.BigInteger, nullable=False),
        sa.Column("end_key", sa.BigInteger, nullable=False),
        sa.Column("arrival", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "scans",
        sa.Column("id", _Id, primary_key=True),
        _dataset_id("scans"),
        sa.Column("manifest", sa.String(32), nullable=False),
        sa.Column("first_key", sa.BigInteger, nullable=False),
        sa.Column("end_key", sa.BigInteger, nullable=False),
        sa.Column("num_superseded", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_scans_dataset", "scans", ["dataset_id"])
    op.create_table(
        "label_files",
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
    )
    op.create_index("ix_label_files_dataset", "label_files", ["dataset_id"])
    op.create_table(
        "label_batches",
        _dataset_id("label_batches", primary_key=True),
        sa.Column("batch_id", sa.String(200), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("arrival", sa.BigInteger, nullable=False),
        sa.Column("num_labels", sa.BigInteger, nullable=False),
        sa.Column("num_corrected", sa.BigInteger, nullable=False),
        sa.Column("end_key", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "deletions",
        sa.Column("id", _Id, primary_key=True),
        _dataset_id("deletions"),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
        sa.Column("num_stored", sa.BigInteger, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(40), nullable=False),
    )
    op.create_index("ix_deletions_dataset", "deletions", ["dataset_id"])
    op.create_table(
        "writing_leases",
        _dataset_id("writing_leases", primary_key=True),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )


def _move_commits() -> None:
    op.execute(
        "INSERT INTO segments (dataset_id, name, kind, first_key, num_samples, num_unlabelled, min_timestamp,"
        " max_timestamp, min_arrival, max_arrival, role, payload_bytes, columns_bytes, digest, format_version)"
        " SELECT s.dataset_id, s.name, 'arrow', s.first_key, s.num_samples, s.num_unlabelled, s.min_timestamp,"
        " s.max_timestamp, c.arrival, c.arrival, 1, s.payload_bytes, s.columns_bytes, s.digest, s.format_version"
        " FROM segments_0001 s JOIN dataset_commits c ON c.id = s.commit_id ORDER BY s.id"
    )
    op.execute(
        "INSERT INTO appended_batches (dataset_id, batch_id, first_key, end_key, arrival)"
        " SELECT dataset_id, batch_id, first_key, end_key, arrival FROM dataset_commits WHERE batch_id IS NOT NULL"
    )
    op.execute(
        "INSERT INTO scans (dataset_id, manifest, first_key, end_key, num_superseded)"
        " SELECT dataset_id, manifest, first_key, end_key, num_superseded FROM dataset_commits"
        " WHERE manifest IS NOT NULL ORDER BY id"
    )
    op.execute(
        "UPDATE datasets SET"
        " last_arrival = (SELECT MAX(c.arrival) FROM dataset_commits c WHERE c.dataset_id = datasets.id),"
        " num_files = COALESCE((SELECT SUM(c.num_new_files) FROM dataset_commits c"
        " WHERE c.dataset_id = datasets.id), 0),"
        " version = (SELECT COUNT(*) FROM dataset_commits c WHERE c.dataset_id = datasets.id)"
    )
