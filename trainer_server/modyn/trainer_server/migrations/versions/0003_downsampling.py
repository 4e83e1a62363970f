"""What downsampling did, what was really trained, and the numbers of every training beside its lineage."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NUMBERS = (
    "num_samples",
    "samples_trained",
    "batches",
    "epochs",
    "train_seconds",
    "store_seconds",
    "job_seconds",
    "epoch_losses",
)


def upgrade() -> None:
    op.add_column("trainings", sa.Column("downsampling", sa.JSON))
    op.add_column("training_lineage", sa.Column("trained", sa.String(64)))
    op.add_column("training_lineage", sa.Column("numbers", sa.JSON))
    op.add_column("training_lineage", sa.Column("auxiliary_used", sa.JSON))
    op.add_column("training_lineage", sa.Column("auxiliary_left", sa.JSON))
    connection = op.get_bind()
    columns = ", ".join((*NUMBERS, "model", "training_set", "pipeline_id", "trigger_index"))
    for row in connection.execute(sa.text(f"SELECT {columns} FROM trainings")).mappings().all():  # noqa: S608
        losses = row["epoch_losses"]  # text, unless the driver knows JSON
        losses = json.loads(losses) if isinstance(losses, str) else losses
        numbers = {**{name: row[name] for name in NUMBERS}, "epoch_losses": losses}
        if losses:
            numbers["final_loss"] = losses[-1]
        change = sa.text(
            "UPDATE training_lineage SET numbers = :numbers WHERE model = :model AND training_set = :training_set "
            "AND pipeline_id = :pipeline_id AND trigger_index = :trigger_index"
        ).bindparams(sa.bindparam("numbers", type_=sa.JSON))
        where = {name: row[name] for name in ("model", "training_set", "pipeline_id", "trigger_index")}
        connection.execute(change, {"numbers": numbers, **where})
