"""What downsampling did at each trigger, and which pipelines are baselines of others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("pipelines", sa.Column("baseline_of", sa.Integer))
    op.add_column("pipelines", sa.Column("baseline", sa.Text))
    for name in ("downsampling", "trained"):
        op.add_column("pipeline_triggers", sa.Column(name, sa.Text))
    for name in ("samples_offered", "samples_scored", "scores_reused", "auxiliary_samples"):
        op.add_column("pipeline_triggers", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    for name in ("score_seconds", "choose_seconds", "auxiliary_seconds"):
        op.add_column("pipeline_triggers", sa.Column(name, sa.Float, nullable=False, server_default="0"))
