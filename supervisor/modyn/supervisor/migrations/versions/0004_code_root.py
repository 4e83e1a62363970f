"""Where a pipeline's own code was, for whoever loads its models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("pipelines", sa.Column("code_root", sa.Text))
