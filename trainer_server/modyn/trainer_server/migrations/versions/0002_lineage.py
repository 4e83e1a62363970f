"""Which models were trained on which training sets, for whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "training_lineage",
        sa.Column("pipeline_id", sa.String(200), primary_key=True),
        sa.Column("trigger_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("training_set", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("dataset", sa.String(200), nullable=False),
        sa.Column("initial_model", sa.String(64)),
        sa.Column("reused", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_training_lineage_training_set", "training_lineage", ["training_set"])
    op.execute(
        "INSERT INTO training_lineage "
        "(pipeline_id, trigger_index, training_set, model, dataset, initial_model, reused, created_at) "
        "SELECT pipeline_id, trigger_index, training_set, model, dataset, initial_model, FALSE, created_at "
        "FROM trainings"
    )
