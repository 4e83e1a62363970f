"""Training sets say which labels belong to them; sets that differ in nothing else share a file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("training_sets", sa.Column("key_file", sa.String(64), nullable=False, server_default=""))
    op.add_column("training_sets", sa.Column("label_time", sa.BigInteger))
    op.add_column("training_sets", sa.Column("label_arrival", sa.BigInteger))
    op.add_column("training_sets", sa.Column("label_version", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE training_sets SET key_file = digest")
