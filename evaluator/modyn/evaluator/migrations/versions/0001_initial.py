"""Outcome columns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("input_digest", sa.String(64), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("dataset", sa.String(200), nullable=False),
        sa.Column("first_key", sa.BigInteger, nullable=False),
        sa.Column("end_key", sa.BigInteger, nullable=False),
        sa.Column("content_digest", sa.String(64), nullable=False),
        sa.Column("coverage", sa.String(64), nullable=False),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
        sa.Column("has_scores", sa.Boolean, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.UniqueConstraint("input_digest", "coverage", "content_digest", "has_scores", name="outcomes_identity"),
    )
    op.create_index("outcomes_file", "outcomes", ["file"])
