"""All numbers of a result that is reused, whatever a release adds to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("trainings", sa.Column("numbers", sa.JSON))
