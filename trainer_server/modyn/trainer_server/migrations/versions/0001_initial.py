"""Finished trainings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "trainings",
        sa.Column("input_digest", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False, index=True),
        sa.Column("dataset", sa.String(200), nullable=False),
        sa.Column("training_set", sa.String(64), nullable=False),
        sa.Column("initial_model", sa.String(64)),
        sa.Column("pipeline_id", sa.String(200), nullable=False),
        sa.Column("trigger_index", sa.BigInteger, nullable=False),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
        sa.Column("samples_trained", sa.BigInteger, nullable=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
        sa.Column("epochs", sa.BigInteger, nullable=False),
        sa.Column("train_seconds", sa.Double, nullable=False),
        sa.Column("store_seconds", sa.Double, nullable=False),
        sa.Column("job_seconds", sa.Double, nullable=False),
        sa.Column("epoch_losses", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
