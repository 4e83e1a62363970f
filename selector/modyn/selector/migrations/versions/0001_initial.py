"""Training sets and the trigger data they were selected from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "training_sets",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("dataset", sa.String(200), nullable=False),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
        sa.Column("has_weights", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "trigger_data",
        sa.Column("pipeline_id", sa.String(64), primary_key=True),
        sa.Column("trigger_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("dataset", sa.String(200), nullable=False),
        sa.Column("new_data", sa.String(64), nullable=False),
        sa.Column("num_new", sa.BigInteger, nullable=False),
        sa.Column("num_unlabelled", sa.BigInteger, nullable=False),
        sa.Column("end_key", sa.BigInteger, nullable=False),
        sa.Column("last_timestamp", sa.BigInteger),
        sa.Column("selection", sa.JSON, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("input_digest", sa.String(64), nullable=False),
        sa.Column("training_set", sa.String(64), sa.ForeignKey("training_sets.digest"), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_trigger_data_training_set", "trigger_data", ["training_set"])
