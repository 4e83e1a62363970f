"""Whose costs contain what making some predictions took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "paid",
        sa.Column("file", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("pipeline_id", sa.String(200), primary_key=True),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
    )
