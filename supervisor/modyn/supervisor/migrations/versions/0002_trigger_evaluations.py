"""Why triggers fired or did not, and pipelines that were only simulated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("pipelines", sa.Column("simulated", sa.Boolean, nullable=False, server_default=sa.false()))
    for name in ("trigger_embedded", "trigger_predicted"):
        op.add_column("pipelines", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "trigger_evaluations",
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("trigger_index", sa.Integer),
        sa.Column("first_timestamp", sa.BigInteger, nullable=False),
        sa.Column("last_timestamp", sa.BigInteger, nullable=False),
        sa.Column("num_samples", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("findings", sa.JSON, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
    )
